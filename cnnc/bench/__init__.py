"""``python -m cnnc.bench FILE...``, the same as ``cnnc bench FILE...``."""

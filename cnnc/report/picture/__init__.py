"""The picture of a network, as papers draw it: boxes, folded repeats, shapes on edges."""

"""Training: data, the loop, progress and checkpoints, for any network that fits ``Trainable``."""

from cnnc.train.checkpoint import Checkpoint, checkpoint_of, load_checkpoint, load_weights, restore, save_checkpoint
from cnnc.train.data import Dataset, Split, load_data
from cnnc.train.loop import Epoch, Progress, TrainingError, Watcher, evaluate, fit
from cnnc.train.protocol import Trainable

__all__ = [
    "Checkpoint",
    "Dataset",
    "Epoch",
    "Progress",
    "Split",
    "Trainable",
    "TrainingError",
    "Watcher",
    "checkpoint_of",
    "evaluate",
    "fit",
    "load_checkpoint",
    "load_data",
    "load_weights",
    "restore",
    "save_checkpoint",
]

"""The same networks in PyTorch, taking and giving NHWC, with cnnc's state dict."""

from __future__ import annotations

import torch
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class Lenet5(nn.Module):
    """LeNet-5 as in ``models/lenet5.cnn`` (ReLU, max pool) or with tanh and average pool; gives logits."""

    def __init__(self, activation: str = "relu", pool: str = "max") -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc3, self.fc4, self.fc5 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)
        self.act = ACTIVATIONS[activation]()
        self.pool = nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 3, 1, 2)
        x = self.pool(self.act(self.conv1(x)))
        x = self.pool(self.act(self.conv2(x))).flatten(1)
        return self.fc5(self.act(self.fc4(self.act(self.fc3(x)))))


def take_over(module: nn.Module, state: dict) -> nn.Module:
    """The module with a cnnc state dict's values, in the module's own dtype."""
    module.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=False)
    return module

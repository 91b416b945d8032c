"""Networks with an illness built in, as a stranger's file would hold them: plain torch, nothing of ours."""

from __future__ import annotations

import math

import torch
from torch import nn


def dead_layer(input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """Three hidden layers of rectifiers, the second with a bias so negative that none of its units ever fires."""
    model = nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(math.prod(input_shape), 32), nn.ReLU()),
        *(nn.Linear(32, 32), nn.ReLU()),
        *(nn.Linear(32, 32), nn.ReLU()),
        nn.Linear(32, num_outputs),
    )
    with torch.no_grad():
        model.get_parameter("3.bias").fill_(-10.0)
    return model

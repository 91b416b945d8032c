"""Recognition weights of a deep belief network."""

from __future__ import annotations

import torch
from torch import nn

from deepforward.models.energy.rbm import RBM


class Recognition(nn.Module):
    """Weights and biases of their own by which a directed layer is recognised: q = sigmoid(h R + r).

    Args:
        machine: The machine whose weights they begin as.
    """

    def __init__(self, machine: RBM) -> None:
        super().__init__()
        self.weight = nn.Parameter(machine.weight.detach().clone())
        self.bias = nn.Parameter(machine.hidden_units.bias.detach().clone())

    @torch.no_grad()
    def copy_from(self, machine: RBM) -> None:
        """Be as the machine's own weights upwards."""
        self.weight.copy_(machine.weight)
        self.bias.copy_(machine.hidden_units.bias)

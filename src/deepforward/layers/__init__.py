"""Modules without a task, and changes to built modules."""

from deepforward.layers.activations import ACTIVATIONS, activation
from deepforward.layers.alteration import ALTERATIONS, alter
from deepforward.layers.initialization import INITIALIZATIONS, critical_, he_, lecun_, orthogonal_, xavier_
from deepforward.layers.residual import PadShortcut, Skip

__all__ = [
    "ACTIVATIONS",
    "ALTERATIONS",
    "INITIALIZATIONS",
    "PadShortcut",
    "Skip",
    "activation",
    "alter",
    "critical_",
    "he_",
    "lecun_",
    "orthogonal_",
    "xavier_",
]

"""Modules without a task, and changes to built modules."""

from deepforward.layers.activations import ACTIVATIONS, activation
from deepforward.layers.alteration import ALTERATIONS, alter
from deepforward.layers.derivatives import DERIVATIVES
from deepforward.layers.folding import fold_batch_normalization
from deepforward.layers.initialization import INITIALIZATIONS, critical_, he_, lecun_, xavier_
from deepforward.layers.noisy_activation import NoisyActivation, NoisyHardSigmoid, NoisyHardTanh, anneal_noise_
from deepforward.layers.orthogonal import delta_orthogonal_, orthogonal_
from deepforward.layers.residual import PadShortcut, Skip

__all__ = [
    "ACTIVATIONS",
    "ALTERATIONS",
    "DERIVATIVES",
    "INITIALIZATIONS",
    "NoisyActivation",
    "NoisyHardSigmoid",
    "NoisyHardTanh",
    "PadShortcut",
    "Skip",
    "activation",
    "alter",
    "anneal_noise_",
    "critical_",
    "delta_orthogonal_",
    "fold_batch_normalization",
    "he_",
    "lecun_",
    "orthogonal_",
    "xavier_",
]

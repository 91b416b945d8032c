"""Networks with an energy: what they do is to go downhill in it, or to sample from it."""

from deepforward.models.energy.boltzmann import BoltzmannMachine
from deepforward.models.energy.connectivity import encoder_connectivity
from deepforward.models.energy.convolutional_rbm import ConvolutionalRBM
from deepforward.models.energy.cooling import Cooling
from deepforward.models.energy.deep_belief import DeepBeliefNetwork
from deepforward.models.energy.deep_belief_classifier import DeepBeliefClassifier
from deepforward.models.energy.deep_boltzmann import DeepBoltzmannMachine
from deepforward.models.energy.deep_boltzmann_classifier import DeepBoltzmannClassifier
from deepforward.models.energy.hopfield import Hopfield, Recall, overlap
from deepforward.models.energy.hopfield_capacity import (
    critical_load,
    error_free_patterns,
    recalled_overlap,
    unstable_bit_probability,
)
from deepforward.models.energy.modern_hopfield import ModernHopfield, ModernRecall
from deepforward.models.energy.rbm import RBM

__all__ = [
    "RBM",
    "BoltzmannMachine",
    "ConvolutionalRBM",
    "Cooling",
    "DeepBeliefClassifier",
    "DeepBeliefNetwork",
    "DeepBoltzmannClassifier",
    "DeepBoltzmannMachine",
    "Hopfield",
    "ModernHopfield",
    "ModernRecall",
    "Recall",
    "critical_load",
    "encoder_connectivity",
    "error_free_patterns",
    "overlap",
    "recalled_overlap",
    "unstable_bit_probability",
]

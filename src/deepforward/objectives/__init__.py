"""Training signals: what a model, a batch and a random generator are turned into."""

from deepforward.objectives.binarization import Binarization
from deepforward.objectives.energy import ContrastiveDivergence
from deepforward.objectives.exact_likelihood import ExactLikelihood
from deepforward.objectives.layerwise import LayerwiseContrastiveDivergence
from deepforward.objectives.objective import Objective, Signal
from deepforward.objectives.self_organised import SelfOrganisedReadOut
from deepforward.objectives.sparse_coding import SparseCoding
from deepforward.objectives.supervised import CrossEntropy, SquaredError, SquaredErrorOneHot
from deepforward.objectives.wake_sleep import UpDown

__all__ = [
    "Binarization",
    "ContrastiveDivergence",
    "CrossEntropy",
    "ExactLikelihood",
    "LayerwiseContrastiveDivergence",
    "Objective",
    "SelfOrganisedReadOut",
    "Signal",
    "SparseCoding",
    "SquaredError",
    "SquaredErrorOneHot",
    "UpDown",
]

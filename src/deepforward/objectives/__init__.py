"""Training signals: what a model, a batch and a random generator are turned into."""

from deepforward.objectives.energy import ContrastiveDivergence
from deepforward.objectives.objective import Objective, Signal
from deepforward.objectives.supervised import CrossEntropy, SquaredError, SquaredErrorOneHot

__all__ = ["ContrastiveDivergence", "CrossEntropy", "Objective", "Signal", "SquaredError", "SquaredErrorOneHot"]

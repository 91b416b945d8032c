"""The surface of scikit-learn: estimators that build a recipe and train it with the one engine."""

from deepforward.estimators.hopfield import Hopfield
from deepforward.estimators.rbm import RBM

__all__ = ["RBM", "Hopfield"]

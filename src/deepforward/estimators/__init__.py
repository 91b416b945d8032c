"""The surface of scikit-learn: estimators that build a recipe and train it with the one engine."""

from deepforward.estimators.binarizer import Binarizer
from deepforward.estimators.classifier import NetworkClassifier
from deepforward.estimators.deep_belief import DBN
from deepforward.estimators.deep_boltzmann import DBM
from deepforward.estimators.hopfield import Hopfield
from deepforward.estimators.rbm import RBM
from deepforward.estimators.segmenter import Segmenter

__all__ = ["DBM", "DBN", "RBM", "Binarizer", "Hopfield", "NetworkClassifier", "Segmenter"]

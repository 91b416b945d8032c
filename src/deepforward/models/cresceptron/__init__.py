"""The Cresceptron: a network that grows by what it is shown, recognises it, and finds its outline."""

from deepforward.models.cresceptron.network import Cresceptron
from deepforward.models.cresceptron.segmentation import Recognition, Segmentation

__all__ = ["Cresceptron", "Recognition", "Segmentation"]

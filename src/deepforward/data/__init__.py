"""Named data sources, loaded as whole tensors, checked, split, and scaled by statistics of the training split."""

from deepforward.data.dataset import Batch, Dataset, Split
from deepforward.data.fetch import fetch
from deepforward.data.loading import load
from deepforward.data.scaling import Scaling

__all__ = ["Batch", "Dataset", "Scaling", "Split", "fetch", "load"]

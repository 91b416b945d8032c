"""MNIST and Fashion-MNIST, found on this machine."""

from __future__ import annotations

from pathlib import Path

from deepforward.data.dataset import Splits
from deepforward.data.idx import is_complete, read_splits, reduced
from deepforward.data.spec import Count, Pixels, Seed
from deepforward.data.storage import data_folders
from deepforward.errors import DataUnavailable

_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def mnist(*, train: Count | None = None, test: Count | None = None, size: Pixels | None = None, seed: Seed = 0) -> Splits:
    """Handwritten digits, 60000 + 10000 images (1, 28, 28) uint8.

    `mnist?train=7291&test=2007&size=16` has the sizes of the data in LeCun et al. 1989.

    Args:
        train: Number of training examples to keep.
        test: Number of test examples to keep.
        size: Height and width in pixels to resize to.
        seed: Chooses the examples kept.

    Raises:
        DataUnavailable: The files are in none of the places where they may lie; the message names them all.
    """
    whole = read_splits(_locate("mnist", "MNIST/raw"))
    return Splits(*reduced(*whole, train=train, test=test, size=size, seed=seed), tuple("0123456789"))


def fashion_mnist(
    *, train: Count | None = None, test: Count | None = None, size: Pixels | None = None, seed: Seed = 0
) -> Splits:
    """Photographs of clothes, 60000 + 10000 images (1, 28, 28) uint8; arguments and errors are those of `mnist`."""
    whole = read_splits(_locate("fashion-mnist", "FashionMNIST/raw"))
    return Splits(*reduced(*whole, train=train, test=test, size=size, seed=seed), _CLOTHES)


def _locate(name: str, torchvision_folder: str) -> Path:
    folders = data_folders(name, torchvision_folder)
    for folder in folders:
        if is_complete(folder):
            return folder
    looked = ", ".join(map(str, folders))
    raise DataUnavailable(f"{name}: its four files are not in {looked}; run `deepforward fetch {name}` or set DEEPFORWARD_DATA")

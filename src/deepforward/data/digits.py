"""Handwritten digits of 8 x 8 pixels that come with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from deepforward.data.dataset import Split, Splits
from deepforward.data.spec import Seed, Share
from deepforward.data.splitting import stratified


def digits(*, test: Share = 0.25, seed: Seed = 0) -> Splits:
    """1797 images (1, 8, 8), uint8 counts of ink from 0 to 16, in ten classes.

    Args:
        test: Share of each class in the test split.
        seed: Chooses the test split.
    """
    source = load_digits()
    pixels = torch.from_numpy(source.images.astype(np.uint8)).unsqueeze(1)
    whole = Split(pixels, torch.from_numpy(source.target.astype(np.int64)))
    rest, held = stratified(whole.targets, test, torch.Generator().manual_seed(seed))
    return Splits(whole.select(rest), whole.select(held), tuple("0123456789"))

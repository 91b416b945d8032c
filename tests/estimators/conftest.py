"""What the tests of the estimators share."""

from __future__ import annotations

import os

import numpy as np
import pytest
from sklearn.datasets import load_digits


@pytest.fixture(autouse=True)
def nothing_waits_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimators train in a folder that does not stay, so that nothing is lost if it never reaches the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 digits of 8x8 pixels, black or white, and their classes."""
    images, classes = load_digits(return_X_y=True)
    return (images > 7).astype(np.float32), classes

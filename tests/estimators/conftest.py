"""What the tests of the estimators share."""

from __future__ import annotations

import os

import numpy as np
import pytest
from sklearn.datasets import load_digits

from deepforward.engine import snapshots


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimators train in a folder that does not stay: its files need not reach the disk, and nobody sees its pictures."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(snapshots, "keep", lambda *run: None)


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 digits of 8x8 pixels, black or white, and their classes."""
    images, classes = load_digits(return_X_y=True)
    return (images > 7).astype(np.float32), classes

"""Scores of masks, against explicit counts and scikit-learn's Jaccard score."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score

from deepforward.metrics.segmentation import confusion_of, iou_per_class, mean_iou


@given(st.integers(0, 2**31), st.integers(2, 5))
def test_scikit_learn_agrees(seed, classes):
    rng = torch.Generator().manual_seed(seed)
    predicted, targets = torch.randint(classes, (2, 3, 4, 5), generator=rng)
    confusion = confusion_of(predicted, targets, classes)
    theirs = confusion_matrix(targets.flatten(), predicted.flatten(), labels=range(classes))
    assert confusion.tolist() == theirs.tolist()
    occurring = sorted(set(targets.flatten().tolist()) | set(predicted.flatten().tolist()))
    scores = jaccard_score(targets.flatten(), predicted.flatten(), labels=occurring, average=None)
    assert iou_per_class(confusion)[occurring].tolist() == pytest.approx(scores.tolist(), abs=1e-12)
    assert mean_iou(confusion) == pytest.approx(scores.mean(), abs=1e-12)


def test_ignored_pixels_do_not_count():
    predicted, targets = torch.tensor([[0, 1, 1]]), torch.tensor([[0, 1, 255]])
    assert confusion_of(predicted, targets, 2).tolist() == [[1, 0], [0, 1]]


def test_a_class_that_is_nowhere_is_left_out():
    confusion = confusion_of(torch.tensor([0, 1]), torch.tensor([0, 1]), 3)
    assert math.isnan(iou_per_class(confusion)[2])
    assert mean_iou(confusion) == 1.0

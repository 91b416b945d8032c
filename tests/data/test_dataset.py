"""A Dataset refuses what cannot be used, shows itself, and parts its training split."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepforward.data import Dataset, Split
from deepforward.data.splitting import stratified
from deepforward.errors import InvalidData, InvalidOption


def split(n=6, features=3, classes=2):
    return Split(torch.arange(float(n * features)).reshape(n, features), torch.arange(n) % classes)


def dataset(train=None, test=None, classes=("no", "yes")):
    return Dataset("mine", split() if train is None else train, split() if test is None else test, classes)


def test_repr_is_readable():
    assert repr(dataset()) == "mine: 6 train + 6 test examples of shape (3,) float32\n  2 classes: no, yes"
    values = Split(torch.zeros(4, 1), torch.tensor([0.0, 1.0, -2.5, 3.0]))
    assert "targets from -2.5 to 3" in repr(dataset(values, values, ()))
    assert repr(split()) == "Split of 6 examples of shape (3,) float32"


def test_many_classes_are_abridged():
    many = split(40, classes=40)
    assert "40 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..., 39" in repr(dataset(many, many, tuple(map(str, range(40)))))


def with_value(value):
    part = split()
    part.inputs[4, 2] = value
    return part


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"train": with_value(float("nan"))}, r"mine: train inputs: got nan at example 4, position \(2,\)"),
        ({"test": with_value(float("-inf"))}, r"mine: test inputs: got -inf at example 4, position \(2,\)"),
        (
            {"train": Split(torch.zeros(2, 1), torch.tensor([0, 2]))},
            "mine: train targets: got label 2 at example 1, expected 0 to 1",
        ),
        ({"test": Split(torch.zeros(2, 3), torch.tensor([0, -1]))}, "mine: test targets: got label -1 at example 1"),
        ({"train": Split(torch.zeros(2, 3), torch.tensor([1, 1]))}, r"got one class \('yes'\) in the train split"),
        ({"train": Split(torch.zeros(2, 3), torch.tensor([0]))}, "got 2 inputs and 1 targets"),
        ({"test": Split(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))}, "test split: got no examples"),
        ({"test": split(features=4)}, r"got train examples of shape \(3,\) and test examples of shape \(4,\)"),
        ({"train": Split(torch.zeros(2, 3), torch.tensor([0.0, 1.0]))}, "got torch.float32"),
        (
            {"train": Split(torch.zeros(2, 3), torch.tensor([0.0, torch.nan])), "classes": ()},
            "train targets: got nan at example 1,",
        ),
    ],
)
def test_unusable_content_is_refused_with_its_place(arguments, says):
    with pytest.raises(InvalidData, match=says) as caught:
        dataset(**arguments)
    assert "\n" not in str(caught.value)


@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32),
)
def test_split_is_stratified_complete_and_deterministic(labels, share, seed):
    targets = torch.tensor(labels)
    counts = Counter(labels)
    expected = {c: min(round(share * n), n - 1) for c, n in counts.items()}
    if not any(expected.values()):
        with pytest.raises(InvalidData, match="too few"):
            stratified(targets, share, torch.Generator().manual_seed(seed))
        return
    rest, held = stratified(targets, share, torch.Generator().manual_seed(seed))
    again = stratified(targets, share, torch.Generator().manual_seed(seed))
    assert sorted(rest.tolist() + held.tolist()) == list(range(len(labels)))
    assert Counter(targets[held].tolist()) == Counter({c: n for c, n in expected.items() if n})
    assert torch.equal(rest, again[0]) and torch.equal(held, again[1])


def test_hold_out_takes_from_the_training_split_only():
    data = dataset(train=split(100), test=Split(-torch.ones(4, 3), torch.tensor([0, 1, 0, 1])))
    rest, held = data.hold_out(0.3, torch.Generator().manual_seed(3))
    assert (len(rest), len(held)) == (70, 30)
    whole = torch.cat((rest.inputs, held.inputs))
    assert torch.equal(whole[whole[:, 0].argsort()], data.train.inputs)
    other, _ = data.hold_out(0.3, torch.Generator().manual_seed(4))
    assert not torch.equal(rest.inputs, other.inputs)


def test_values_are_split_as_one_class():
    rest, held = stratified(torch.rand(10), 0.3, torch.Generator())
    assert (len(rest), len(held)) == (7, 3)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_outside_the_open_interval_is_refused(share):
    with pytest.raises(InvalidOption, match=f"got validation={share:g}, expected"):
        dataset().hold_out(share, torch.Generator())


def masks(n=4, height=3, width=5, dtype=torch.uint8):
    return Split(torch.zeros(n, 1, height, width), (torch.arange(n * height * width) % 2).reshape(n, height, width).to(dtype))


def test_the_targets_tell_the_task():
    assert dataset().task == "classification"
    values = Split(torch.zeros(4, 1), torch.arange(4.0))
    assert dataset(values, values, ()).task == "regression"
    assert dataset(masks(), masks()).task == "segmentation"
    pictures = Split(torch.zeros(4, 1, 2, 2), torch.rand(4, 1, 2, 2))
    assert dataset(pictures, pictures, ()).task == "image-regression"


def test_masks_are_parted_as_wholes():
    data = dataset(masks(8), masks())
    rest, held = data.hold_out(0.25, torch.Generator().manual_seed(0))
    assert (len(rest), len(held)) == (6, 2)
    assert held.targets.shape == (2, 3, 5)


def with_pixel(value):
    part = masks()
    part.targets[2, 1, 4] = value
    return part


def ignored():
    return Split(masks().inputs, torch.full((4, 3, 5), 255, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (with_pixel(2), "mine: train masks: got index 2 at example 2, row 1, column 4, expected 0 to 1, or 255 to ignore"),
        (
            Split(masks().inputs, masks(width=4).targets),
            r"got torch.uint8 of shape \(4, 3, 4\), expected .* of images of 3 x 5",
        ),
        (masks(dtype=torch.int64), "got torch.int64 of shape"),
        (ignored(), r"got nothing but 255 \(ignored\)"),
        (Split(masks().inputs, torch.ones(4, 3, 5, dtype=torch.uint8)), r"got one class \('yes'\)"),
    ],
)
def test_masks_that_do_not_fit_are_refused(part, says):
    with pytest.raises(InvalidData, match=says):
        dataset(part, masks())


def test_ignored_pixels_are_no_class():
    assert dataset(with_pixel(255), masks()).task == "segmentation"

"""NumPy archives: layouts, targets, and what is refused."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch

from deepforward.data import load
from deepforward.errors import CorruptData, DataUnavailable, DeepforwardError, InvalidData


def save(folder, **arrays):
    np.savez(folder / "a.npz", **arrays)
    return f"npz:{folder / 'a.npz'}"


def test_one_pair_is_split_by_class(tmp_path):
    x, y = np.arange(40.0).reshape(20, 2), np.repeat([0, 1], [12, 8])
    data = load(save(tmp_path, x=x, y=y))
    assert (data.shape, data.train.inputs.dtype, data.classes) == ((2,), torch.float32, ("0", "1"))
    assert torch.bincount(data.test.targets).tolist() == [3, 2]
    rows = torch.cat((data.train.inputs, data.test.inputs))
    targets = torch.cat((data.train.targets, data.test.targets))
    order = rows[:, 0].argsort()
    assert rows[order].tolist() == x.tolist() and targets[order].tolist() == y.tolist()


def test_stored_splits_are_kept(tmp_path):
    images = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    data = load(save(tmp_path, x_train=images, y_train=[3, 5], x_test=images[::-1], y_test=[5, 3]))
    assert (data.shape, data.train.inputs.dtype, data.classes) == ((1, 28, 28), torch.uint8, ("3", "5"))
    assert data.test.inputs[:, 0].tolist() == images[::-1].tolist()
    assert (data.train.targets.tolist(), data.test.targets.tolist()) == ([0, 1], [1, 0])


def test_channels_last_become_channels_first(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 5, 3), dtype=np.uint8)
    data = load(save(tmp_path, x=images, y=np.arange(8) % 2, z=np.array([None])))
    assert data.shape == (3, 4, 5)
    assert load(save(tmp_path, x=images.transpose(0, 3, 1, 2), y=np.arange(8) % 2)).shape == (3, 4, 5)
    both = torch.cat((data.train.inputs, data.test.inputs))
    assert sorted(map(tuple, both.permute(0, 2, 3, 1).flatten(1).tolist())) == sorted(
        map(tuple, images.reshape(8, -1).tolist())
    )


@pytest.mark.parametrize(
    ("targets", "classes"),
    [
        (["yes", "no"] * 4, ("no", "yes")),
        ([True, False] * 4, ("False", "True")),
        ([-1, 1] * 4, ("-1", "1")),
        ([0.0, 2.0] * 4, ("0", "2")),
        ([0.5, 2.0] * 4, ()),
        ([[7], [8]] * 4, ("7", "8")),
    ],
)
def test_targets_say_what_the_task_is(tmp_path, targets, classes):
    data = load(save(tmp_path, x=np.eye(8), y=targets))
    assert data.classes == classes
    assert data.train.targets.dtype == (torch.int64 if classes else torch.float32)


def test_the_task_can_be_said(tmp_path):
    spec = save(tmp_path, x=np.eye(8), y=np.arange(8) % 2)
    data = load(f"{spec}?task=regression")
    assert data.classes == () and set(data.train.targets.tolist()) == {0.0, 1.0}


EYE = np.eye(4)


@pytest.mark.parametrize(
    ("arrays", "error", "says"),
    [
        ({"x": EYE}, InvalidData, "got the arrays x, expected x, y or x_train"),
        ({"a": EYE}, InvalidData, "got the arrays a, expected x, y or x_train"),
        ({}, InvalidData, "got no array, expected x, y or x_train"),
        ({"x": EYE, "y": [0, 1, 0]}, InvalidData, "got 4 rows in x and 3 in y"),
        ({"x": EYE, "y": EYE}, InvalidData, r"got targets of shape \(4, 4\)"),
        ({"x": EYE, "y": []}, InvalidData, r"got targets of shape \(0,\)"),
        ({"x": EYE[0], "y": [0, 1, 0, 1]}, InvalidData, r"array x: got float64 of shape \(4,\)"),
        ({"x": EYE.astype(str), "y": [0, 1, 0, 1]}, InvalidData, "array x: got <U"),
        ({"x": EYE.astype(object), "y": [0, 1, 0, 1]}, CorruptData, "cannot be read as npz .*holds Python objects"),
        ({"x": np.full((8, 2), np.nan), "y": [0, 1] * 4}, InvalidData, r"array x: got nan at example 0, position \(0,\)"),
        ({"x": np.eye(8), "y": [0] * 8}, InvalidData, "got one class"),
        ({"x": np.eye(8), "y": [0.0, np.nan] * 4}, InvalidData, "train targets: got nan at example"),
        (
            {"x_train": EYE, "y_train": [0, 1, 0, 1], "x_test": EYE, "y_test": ["0", "1", "0", "1"]},
            InvalidData,
            "one kind of label",
        ),
        ({"x": np.eye(8), "y": ["a"] * 8}, InvalidData, "got one class"),
        ({"x": np.full((8, 2), 1e300), "y": [0, 1] * 4}, InvalidData, "array x: got inf at example 0"),
        (
            {"x_train": EYE, "y_train": [0, 1, 0, 1], "x_test": EYE, "y_test": [0, 1, 2, 0]},
            InvalidData,
            "array y_test: got label 2 at example 2",
        ),
        (
            {"x_train": EYE, "y_train": [0, 1, 0, 1], "x_test": EYE[:3], "y_test": [0, 1, 1, 0]},
            InvalidData,
            "got 3 inputs and 4",
        ),
        (
            {"x_train": EYE, "y_train": [0, 1, 0, 1], "x_test": EYE[:0], "y_test": []},
            InvalidData,
            r"got targets of shape \(0,\)",
        ),
    ],
)
def test_unusable_arrays(tmp_path, arrays, error, says):
    with pytest.raises(error, match=says) as caught:
        load(save(tmp_path, **arrays))
    assert "\n" not in str(caught.value) and isinstance(caught.value, DeepforwardError)


def test_nan_is_no_class(tmp_path):
    with pytest.raises(InvalidData, match="array y: got nan at example 2"):
        load(save(tmp_path, x=np.eye(8), y=[0, 1, np.nan, 0, 1, 0, 1, 0]) + "?task=classification")


def test_files_that_are_no_archive(tmp_path):
    with pytest.raises(DataUnavailable, match=r"none\.npz: cannot be read \(No such file"):
        load(f"npz:{tmp_path / 'none.npz'}")
    with pytest.raises(DataUnavailable, match="Is a directory"):
        load(f"npz:{tmp_path}")
    spec = save(tmp_path, x=EYE, y=[0, 1, 0, 1])
    path = tmp_path / "a.npz"
    for content in (path.read_bytes()[:-30], path.read_bytes()[:200], b"text", b""):
        path.write_bytes(content)
        with pytest.raises(CorruptData, match=r"a\.npz: cannot be read as npz") as caught:
            load(spec)
        assert "\n" not in str(caught.value) and "allow_pickle" not in str(caught.value)
    with path.open("wb") as stream:
        np.save(stream, EYE)
    with pytest.raises(CorruptData, match="got a single array"):
        load(spec)


def test_a_header_that_claims_too_much(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**7, 10**7)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in ("x.npy", "y.npy"):
            archive.writestr(name, header.getvalue() + bytes(80))
    with pytest.raises(CorruptData, match="cannot be read as npz"):
        load(f"npz:{tmp_path / 'a.npz'}")


def test_values_too_large_for_their_storage(tmp_path):
    with pytest.raises(InvalidData, match="targets: got inf at example"):
        load(save(tmp_path, x=np.eye(8), y=np.full(8, 1e300)) + "?task=regression")


def test_a_flipped_byte_is_noticed(tmp_path):
    spec = save(tmp_path, x=np.zeros((50, 50)), y=np.arange(50) % 2)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[5000] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(CorruptData, match="CRC"):
        load(spec)


def test_text_for_a_regression_is_named_where_it_stands(tmp_path):
    spec = save(tmp_path, x_train=EYE, y_train=[0.5, 1, 2, 3], x_test=EYE, y_test=["a", "b", "c", "d"])
    with pytest.raises(InvalidData, match="array y_test: got text"):
        load(f"{spec}?task=regression")

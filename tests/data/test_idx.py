"""idx files: what is read back, what is refused, and where MNIST is looked for."""

from __future__ import annotations

import gzip
import struct
import time

import numpy as np
import pytest
import torch

from deepforward.data import load
from deepforward.data.idx import read_idx
from deepforward.errors import CorruptData, DataUnavailable, InvalidData, InvalidOption

_CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


def idx_bytes(values, kind="u1"):
    values = np.asarray(values).astype(kind)
    return struct.pack(f">HBB{values.ndim}I", 0, _CODES[kind], values.ndim, *values.shape) + values.tobytes()


def write_set(folder, sizes=(12, 5), prefixes=("train", "t10k"), compress=gzip.compress):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    suffix = ".gz" if compress is gzip.compress else ""
    for prefix, size in zip(prefixes, sizes, strict=True):
        images, labels = rng.integers(0, 256, (size, 6, 4)), np.arange(size) % 3
        (folder / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(compress(idx_bytes(images)))
        (folder / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(compress(idx_bytes(labels)))
    return folder


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A machine on which nothing has been downloaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DEEPFORWARD_DATA", raising=False)
    return tmp_path


@pytest.mark.parametrize("kind", _CODES)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_every_value_type_is_read_back(tmp_path, kind, compress):
    values = np.arange(24).reshape(2, 3, 4)
    path = tmp_path / "values"
    path.write_bytes(compress(idx_bytes(values, kind)))
    read = read_idx(path)
    assert read.dtype == torch.from_numpy(np.zeros(1, np.dtype(kind).newbyteorder("="))).dtype
    assert read.tolist() == values.tolist()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "got 0 bytes, expected an idx file"),
        (b"PK\x03\x04" + bytes(40), "got magic number 0x504b0304"),
        (b"\0\0\x07\x01" + bytes(40), "got magic number 0x00000701"),
        (idx_bytes(np.zeros((3, 4)))[:10], "got 10 bytes, expected 12 by its header"),
        (idx_bytes(np.zeros((3, 4)))[:-1], "got 23 bytes, expected 24 by its header"),
        (idx_bytes(np.zeros((3, 4))) + b"\0", "got 25 bytes, expected 24 by its header"),
        (gzip.compress(idx_bytes(np.zeros((30, 40))), mtime=0)[:-9], "does not decompress"),
        (gzip.compress(b"some text", mtime=0)[:-8] + bytes(8), "does not decompress"),
        (b"\x1f\x8b\x08\0" + b"\xff" * 30, "does not decompress"),
    ],
)
def test_broken_files_are_named(tmp_path, content, says):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(CorruptData) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: {says}") and "\n" not in str(caught.value)


@pytest.mark.parametrize("prefixes", [("train", "t10k"), ("train", "test")])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_a_folder_loads(tmp_path, prefixes, compress):
    data = load(f"idx:{write_set(tmp_path, prefixes=prefixes, compress=compress)}")
    assert (data.shape, data.train.inputs.dtype, data.classes) == ((1, 6, 4), torch.uint8, ("0", "1", "2"))
    assert (len(data.train), len(data.test)) == (12, 5)


def test_a_missing_folder_and_a_missing_file(tmp_path):
    with pytest.raises(DataUnavailable, match="no such folder"):
        load(f"idx:{tmp_path / 'none'}")
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataUnavailable, match=r"got no file t10k-labels\*"):
        load(f"idx:{tmp_path}")


def test_images_and_labels_must_be_as_many(tmp_path):
    write_set(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(idx_bytes(np.arange(11) % 3))
    with pytest.raises(InvalidData, match=r"train-images-idx3-ubyte\.gz: got 12 images and 11 labels"):
        load(f"idx:{tmp_path}")


def test_files_without_examples(tmp_path):
    with pytest.raises(InvalidData, match="got shape"):
        load(f"idx:{write_set(tmp_path, sizes=(0, 5))}")


def test_a_test_label_that_training_lacks(tmp_path):
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(idx_bytes([0, 1, 2, 9, 0]))
    with pytest.raises(
        InvalidData, match=r"test labels: got label 9 at example 3, which no training .* expected one of 0, 1, 2"
    ):
        load(f"idx:{tmp_path}")


def test_classes_are_the_labels_that_training_has(tmp_path):
    write_set(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(idx_bytes(np.tile([1, 5, 200], 4)))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(idx_bytes([200, 1, 5, 5, 1]))
    data = load(f"idx:{tmp_path}")
    assert data.classes == ("1", "5", "200")
    assert (data.train.targets[:3].tolist(), data.test.targets.tolist()) == ([0, 1, 2], [2, 0, 1, 1, 0])
    # A subset that lacks a class keeps its name and the indices of the others.
    assert load(f"idx:{tmp_path}?train=5").classes == data.classes


def test_labels_out_of_range_of_a_named_set(elsewhere, monkeypatch):
    write_set(elsewhere / "mnist")
    (elsewhere / "mnist" / "train-labels-idx1-ubyte.gz").write_bytes(idx_bytes(np.arange(12)))
    monkeypatch.setenv("DEEPFORWARD_DATA", str(elsewhere))
    with pytest.raises(InvalidData, match="mnist: train targets: got label 10 at example 10, expected 0 to 9"):
        load("mnist")


def test_a_subset_is_part_of_a_larger_one(tmp_path):
    folder = write_set(tmp_path, sizes=(40, 20))
    rows = [
        {tuple(image.flatten().tolist()) for image in load(f"idx:{folder}?train={n}&test=9").train.inputs} for n in (10, 25, 40)
    ]
    assert [len(images) for images in rows] == [10, 25, 40] and rows[0] < rows[1] < rows[2]
    with pytest.raises(InvalidOption, match="got test=21, expected at most 20"):
        load(f"idx:{folder}?test=21")


def test_resizing_averages(tmp_path):
    write_set(tmp_path)
    checkers = np.kron(np.ones((12, 1, 1)), np.kron([[0, 200], [100, 40]], np.ones((8, 8))))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(idx_bytes(checkers))
    images = load(f"idx:{tmp_path}?size=4").train.inputs
    # Away from edges the average of equal pixels is that pixel.
    assert images.shape == (12, 1, 4, 4) and images[0, 0, ::3, ::3].tolist() == [[0, 200], [100, 40]]


@pytest.mark.parametrize("place", ["data/mnist", "data/MNIST/raw", "cache/deepforward/mnist"])
def test_mnist_is_found_where_it_may_lie(elsewhere, monkeypatch, place):
    monkeypatch.setenv("DEEPFORWARD_DATA", str(elsewhere / "data"))
    write_set(elsewhere / place)
    assert len(load("mnist").train) == 12


def test_the_data_folder_may_be_the_set_itself_but_no_other(elsewhere, monkeypatch):
    monkeypatch.setenv("DEEPFORWARD_DATA", str(write_set(elsewhere / "fashion-mnist")))
    assert load("fashion-mnist").classes[9] == "Ankle boot"
    with pytest.raises(DataUnavailable):
        load("mnist")


def test_a_set_that_is_nowhere_says_where_it_was_looked_for(elsewhere, monkeypatch):
    monkeypatch.setenv("DEEPFORWARD_DATA", str(elsewhere / "data"))
    with pytest.raises(DataUnavailable) as caught:
        load("mnist")
    for place in ("data/mnist", "cache/deepforward/mnist"):
        assert str(elsewhere / place) in str(caught.value)
    assert "/usr/share/datasets/mnist" in str(caught.value) and "deepforward fetch mnist" in str(caught.value)


def test_a_folder_that_lacks_a_file_is_passed_over(elsewhere, monkeypatch):
    monkeypatch.setenv("DEEPFORWARD_DATA", str(elsewhere / "data"))
    write_set(elsewhere / "data" / "mnist", sizes=(9, 9))
    (elsewhere / "data" / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    write_set(elsewhere / "cache" / "deepforward" / "mnist")
    assert len(load("mnist").train) == 12


def test_mnist_itself_is_whole_and_fast(data_folder):
    start = time.process_time()
    data = load("mnist")
    assert time.process_time() - start < 2  # about 0.3 s on a quiet machine; this one may be shared
    assert (len(data.train), len(data.test), data.shape) == (60000, 10000, (1, 28, 28))
    # The mean and deviation that every user of MNIST knows.
    pixels = data.train.inputs.float() / 255
    assert float(pixels.mean()) == pytest.approx(0.1307, abs=5e-5)
    assert float(pixels.std()) == pytest.approx(0.3081, abs=5e-5)


def test_the_subset_of_1989(data_folder):
    data = load("mnist?train=7291&test=2007&size=16")
    assert (len(data.train), len(data.test), data.shape, data.train.inputs.dtype) == (7291, 2007, (1, 16, 16), torch.uint8)
    # Draws keep the ink: the mean of 7291 images differs from that of all by less than 4 standard errors (deviation of an
    # image's mean: 11 grey levels).
    assert float(data.train.inputs.float().mean()) == pytest.approx(33.32, abs=4 * 11 / 7291**0.5)

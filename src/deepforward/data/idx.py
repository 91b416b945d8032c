"""The idx format of MNIST: two zero bytes, type, number of axes, their lengths (32 bit, big endian), values in row order."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepforward.data.dataset import Split, Splits
from deepforward.data.images import resize
from deepforward.data.labels import encoder
from deepforward.data.spec import Count, Pixels, Seed
from deepforward.errors import CorruptData, DataUnavailable, InvalidData, InvalidOption

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_TEST_PREFIXES = ("t10k", "test")


def read_idx(path: Path) -> Tensor:
    """The tensor in one idx file, plain or gzip-compressed, with the value type it was written in.

    Raises:
        OSError: The file cannot be read.
        CorruptData: It is cut short, too long, no idx file, or its compression is broken.
    """
    content = _content(path)
    if len(content) < 4:
        raise CorruptData(f"{path}: got {len(content)} bytes, expected an idx file; fetch it again")
    zeros, kind, axes = struct.unpack(">HBB", content[:4])
    if zeros or kind not in _TYPES or not axes:
        raise CorruptData(f"{path}: got magic number 0x{content[:4].hex()}, expected 0x0000, a type and the number of axes")
    start = 4 + 4 * axes
    shape = struct.unpack(f">{axes}I", content[4:start]) if len(content) >= start else ()
    dtype = np.dtype(_TYPES[kind])
    size = start + (math.prod(shape) * dtype.itemsize if shape else 0)
    if len(content) != size:
        raise CorruptData(f"{path}: got {len(content)} bytes, expected {size} by its header; fetch it again")
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return torch.from_numpy(values.astype(dtype.newbyteorder("="), copy=True))


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorruptData(f"{path}: does not decompress ({error}); fetch it again") from None


def idx(
    path: Path, *, train: Count | None = None, test: Count | None = None, size: Pixels | None = None, seed: Seed = 0
) -> Splits:
    """Labelled images or feature rows from a folder with the four files of MNIST's layout, plain or `.gz`.

    The files are `train-images*`, `train-labels*`, and `t10k-` or `test-` of the same. Classes are the labels that occur in the
    training file, in ascending order; they need not begin at 0 or be without gaps.

    Args:
        path: The folder.
        train: Number of training examples to keep, drawn by `seed`; a smaller number keeps a part of a larger one.
        test: The same for the test split.
        size: Height and width in pixels to resize images to, by antialiased bilinear interpolation.
        seed: Chooses the examples kept.

    Raises:
        DataUnavailable: No such folder, or a file is missing.
        CorruptData: A file is cut short or no idx file.
        InvalidData: Images and labels do not fit each other, or the test split has a label that the training split lacks.
    """
    if not path.is_dir():
        raise DataUnavailable(f"{path}: no such folder; write idx:DIR with the folder of the idx files")
    whole = read_splits(path)
    encode, classes = encoder(f"{path}: train labels", whole[0].targets.numpy(), "classification")
    encoded = (
        Split(split.inputs, encode(f"{path}: {name} labels", split.targets.numpy()))
        for name, split in zip(("train", "test"), whole, strict=True)
    )
    return Splits(*reduced(*encoded, train=train, test=test, size=size, seed=seed), classes)


def read_splits(path: Path) -> tuple[Split, Split]:
    """Training and test split from a folder of four idx files, with the labels as they stand in the files."""
    return _read_split(path, ("train",)), _read_split(path, _TEST_PREFIXES)


def reduced(
    train_split: Split, test_split: Split, *, train: int | None, test: int | None, size: int | None, seed: int
) -> tuple[Split, Split]:
    """Training and test split with fewer examples and other sizes, where asked for; the options are those of `idx`."""
    kept = _keep(train_split, train, seed, "train"), _keep(test_split, test, seed, "test")
    if size is None:
        return kept
    first, second = (Split(resize(split.inputs, size), split.targets) for split in kept)
    return first, second


def _read_split(folder: Path, prefixes: tuple[str, ...]) -> Split:
    images_path, labels_path = _find(folder, prefixes, "images"), _find(folder, prefixes, "labels")
    images, labels = read_idx(images_path), read_idx(labels_path)
    if labels.ndim != 1 or labels.is_floating_point():
        raise CorruptData(f"{labels_path}: got {labels.ndim} axes of {labels.dtype}, expected one axis of whole numbers")
    if len(images) != len(labels):
        raise InvalidData(f"{images_path}: got {len(images)} images and {len(labels)} labels, expected as many of each")
    if not len(images) or images.ndim == 1:
        raise InvalidData(
            f"{images_path}: got shape {tuple(images.shape)}, expected (examples, height, width), none of them zero"
        )
    if images.ndim == 3:
        images = images.unsqueeze(1)
    return Split(images if images.dtype == torch.uint8 else images.float(), labels.long())


def is_complete(folder: Path) -> bool:
    """Whether a folder holds all four files."""
    return all(
        _matches(folder, prefixes, content) for prefixes in (("train",), _TEST_PREFIXES) for content in ("images", "labels")
    )


def _find(folder: Path, prefixes: tuple[str, ...], content: str) -> Path:
    found = _matches(folder, prefixes, content)
    if found:
        return found[0]
    raise DataUnavailable(f"{folder}: got no file {prefixes[0]}-{content}*, expected one in idx format, plain or .gz")


def _matches(folder: Path, prefixes: tuple[str, ...], content: str) -> list[Path]:
    return [path for prefix in prefixes for path in sorted(folder.glob(f"{prefix}-{content}*"))]


def _keep(split: Split, count: int | None, seed: int, option: str) -> Split:
    if count is None:
        return split
    if count > len(split):
        raise InvalidOption(f"got {option}={count}, expected at most {len(split)}, as many as there are")
    return split.select(torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:count])

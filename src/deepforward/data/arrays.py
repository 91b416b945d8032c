"""Arrays from a NumPy .npz file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepforward.data.checks import check_finite
from deepforward.data.dataset import Split, Splits
from deepforward.data.labels import Encode, Task, encoder
from deepforward.data.spec import Seed, Share
from deepforward.data.splitting import stratified
from deepforward.errors import CorruptData, DeepforwardError, InvalidData, first_line

_WHOLE, _PARTED = ("x", "y"), ("x_train", "y_train", "x_test", "y_test")


def npz(path: Path, *, task: Task = "auto", test: Share = 0.25, seed: Seed = 0) -> Splits:
    """Arrays `x` and `y`, or `x_train`, `y_train`, `x_test` and `y_test`; nothing in the file is unpickled.

    Inputs of three axes are grey images and get a channel; of four, with the last axis 1 or 3 and the second not, they are
    channels last. uint8 stays, all else becomes float32.

    Args:
        path: The file.
        task: Whether targets are classes; `auto` says so of text, booleans, integers, and up to 20 distinct whole numbers.
        test: Share of each class in the test split, if the file has one pair of arrays.
        seed: Chooses that test split.

    Raises:
        DataUnavailable: No such file.
        CorruptData: It is no npz file, is cut short, or holds pickled objects.
        InvalidData: Arrays are missing or do not fit each other.
    """
    arrays = _read(path)
    if all(key in arrays for key in _PARTED):
        encode, classes = encoder(f"{path}: array y_train", _flat(path, "y_train", arrays), task)
        train, held = (_split(path, f"_{part}", arrays, encode) for part in ("train", "test"))
        return Splits(train, held, classes)
    encode, classes = encoder(f"{path}: array y", _flat(path, "y", arrays), task)
    whole = _split(path, "", arrays, encode)
    if len(whole.inputs) != len(whole.targets):
        raise InvalidData(f"{path}: got {len(whole.inputs)} rows in x and {len(whole.targets)} in y, expected as many of each")
    rest, held_out = stratified(whole.targets, test, torch.Generator().manual_seed(seed))
    return Splits(whole.select(rest), whole.select(held_out), classes)


def _read(path: Path) -> Mapping[str, np.ndarray]:
    try:
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise CorruptData(f"{path}: got a single array, expected an npz file made by numpy.savez(x=..., y=...)")
            if not any(all(key in archive.files for key in keys) for keys in (_WHOLE, _PARTED)):
                got = f"the arrays {', '.join(archive.files)}" if archive.files else "no array"
                raise InvalidData(f"{path}: got {got}, expected {', '.join(_WHOLE)} or {', '.join(_PARTED)}")
            return {key: archive[key] for key in archive.files if key in {*_WHOLE, *_PARTED}}
    except DeepforwardError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, MemoryError) as error:
        reason = first_line(error)
        if "pickle" in reason:  # what NumPy takes an unknown file for; its advice, to allow that, would run what is in the file
            reason = "it is something else, or holds Python objects"
        raise CorruptData(f"{path}: cannot be read as npz ({reason}); write it again with numpy.savez") from None


def _split(path: Path, suffix: str, arrays: Mapping[str, np.ndarray], encode: Encode) -> Split:
    x, y = f"x{suffix}", f"y{suffix}"
    return Split(_inputs(path, x, arrays), encode(f"{path}: array {y}", _flat(path, y, arrays)))


def _flat(path: Path, key: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    targets = arrays[key]
    flat = targets.squeeze(1) if targets.ndim == 2 and targets.shape[1] == 1 else targets
    if flat.ndim != 1 or not len(flat):
        got = f"targets of shape {targets.shape}"
        raise InvalidData(f"{path}: array {key}: got {got}, expected one an example and at least one example")
    return flat


def _inputs(path: Path, key: str, arrays: Mapping[str, np.ndarray]) -> Tensor:
    values = arrays[key]
    if values.dtype.kind not in "biuf" or values.ndim < 2:
        got = f"{values.dtype} of shape {values.shape}"
        raise InvalidData(f"{path}: array {key}: got {got}, expected numbers with examples along the first axis")
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4 and values.shape[3] in (1, 3) and values.shape[1] not in (1, 3):
        values = values.transpose(0, 3, 1, 2)
    dtype = np.uint8 if values.dtype == np.uint8 else np.float32
    with np.errstate(over="ignore"):  # becomes infinite, which the check below reports
        inputs = torch.from_numpy(np.ascontiguousarray(values, dtype))
    check_finite(f"{path}: array {key}", inputs)
    return inputs

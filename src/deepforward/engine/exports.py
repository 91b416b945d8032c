"""What a trained model gives, as files for other programs: arrays, tables and pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepforward.data import Dataset
from deepforward.engine.generation import Completions
from deepforward.engine.pixels import is_image, pixels
from deepforward.errors import InvalidOption
from deepforward.files import write_whole
from deepforward.report.images import montage

#: Columns of a picture of completions.
_COLUMNS = 16


def output_paths(out: Path, name: str, suffixes: tuple[str, ...]) -> list[Path]:
    """The files to write: `out` itself, or one of each kind in it where it is a folder.

    Args:
        out: A file, or a folder that may not exist yet.
        name: Name of the files in a folder, without suffix.
        suffixes: Kinds of files.

    Raises:
        InvalidOption: `out` is a file of another kind.
    """
    if out.is_dir() or not out.suffix:
        return [out / f"{name}{suffix}" for suffix in suffixes]
    if out.suffix not in suffixes:
        raise InvalidOption(f"got --out {out}; expected a folder, or a file that ends in {' or '.join(suffixes)}")
    return [out]


def write_samples(paths: list[Path], samples: Tensor, data: Dataset) -> list[Path]:
    """New examples as `samples` of an .npz file, and as a .png picture; returns the paths written (see `write_completions`)."""
    columns = max(round(len(samples) ** 0.5), 1)
    return _write(paths, {"samples": samples}, samples, columns, data)


def write_completions(paths: list[Path], completions: Completions, data: Dataset) -> list[Path]:
    """Completed examples as `truth`, `completed` and `known` of an .npz file, and as a .png picture.

    The picture has rows of 16: given, completed, whole, and so on.

    Args:
        paths: Files to write, by suffix; of several, the picture is left out where the data are no images.
        completions: What to write, in the units of the data.
        data: Its range is black to white.

    Returns:
        The paths written.

    Raises:
        InvalidOption: A picture alone is asked for and the data are no images.
        WriteFailed: A file could not be written.
    """
    truth, known = completions.truth, completions.known
    given = torch.where(known > 0, truth, (truth.min() + truth.max()) / 2)
    variants = torch.stack((given, completions.completed, truth))
    chunks = [row for chunk in variants.split(_COLUMNS, dim=1) for row in _filled(chunk, min(_COLUMNS, len(truth)))]
    return _write(paths, vars(completions), torch.cat(chunks), min(_COLUMNS, len(truth)), data)


def write_features(path: Path, features: Tensor, targets: Tensor, data: Dataset) -> None:
    """Features and targets as an .npz file (`features`, `targets`, `classes`), or as a .csv table with class names.

    Args:
        path: File to write.
        features: (examples, features).
        targets: Class index or value of each example.
        data: Where they come from.

    Raises:
        WriteFailed: The file could not be written.
    """
    if path.suffix == ".npz":
        content = _npz({"features": features.numpy(), "targets": targets.cpu().numpy(), "classes": np.array(data.classes, str)})
    else:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([*(f"feature{i}" for i in range(features.shape[1])), "target"])
        for row, target in zip(features.tolist(), targets.tolist(), strict=True):
            table.writerow([*(f"{x:.9g}" for x in row), data.classes[target] if data.classes else target])
        content = text.getvalue().encode()
    write_whole(path, content)


def _write(paths: list[Path], arrays: Mapping[str, Tensor], images: Tensor, columns: int, data: Dataset) -> list[Path]:
    written = []
    for path in paths:
        if path.suffix == ".npz":
            content = _npz({name: values.numpy() for name, values in arrays.items()})
        elif is_image(data.shape):
            content = montage(pixels(images, like=data.train.inputs), columns)
        elif len(paths) > 1:
            continue
        else:
            raise InvalidOption(f"got {path} for examples of shape {data.shape}, which are no images; give a file .npz")
        write_whole(path, content)
        written.append(path)
    return written


def _npz(arrays: Mapping[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # numbers and text, so nothing is pickled
    return stream.getvalue()


def _filled(rows: Tensor, columns: int) -> Tensor:
    """Rows of images, lengthened with their own middle grey to a number of columns."""
    missing = columns - rows.shape[1]
    grey = ((rows.min() + rows.max()) / 2).expand(len(rows), missing, *rows.shape[2:])
    return torch.cat((rows, grey), 1)

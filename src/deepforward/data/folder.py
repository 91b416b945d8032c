"""Images in a folder per class, decoded once and kept as a memory map."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import statistics
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from deepforward.data.dataset import Split, Splits
from deepforward.data.images import decode, describe
from deepforward.data.spec import Seed, Share
from deepforward.data.splitting import stratified
from deepforward.data.storage import cache_folder, whole_file
from deepforward.errors import DataUnavailable, DeepforwardError, DeepforwardWarning, InvalidData, InvalidOption

#: How names of images end.
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
#: Names of the folder beside `train` that holds the test split.
HELD_OUT = ("test", "val")
_LARGEST_AUTOMATIC, _LARGEST = 224, 1024


class _Listing(NamedTuple):
    """Image files, all of the training split first, and the class index of each."""

    files: Sequence[Path]
    labels: Tensor
    num_train: int
    classes: tuple[str, ...]


def folder(
    path: Path, *, size: str = "auto", mode: Literal["auto", "L", "RGB"] = "auto", test: Share = 0.25, seed: Seed = 0
) -> Splits:
    """Images (channels, height, width) uint8, one folder a class, with sub-folders, hidden files and other files allowed.

    If `path` has a folder `train`, classes are looked for in there, and the test split in `test` or `val` beside it. Decoded
    images are kept in the user's cache until a file, its time or an option changes.

    Args:
        path: The folder.
        size: `PIXELS` or `HEIGHTxWIDTH`; `auto` is the size that all images share if that is at most 224, else a square with
            the median of their shorter sides, again at most 224. Images are cropped in the middle to that aspect ratio.
        mode: One channel or three; `auto` is one if all images are grey.
        test: Share of each class in the test split, where the folder does not say.
        seed: Chooses the test split.

    Raises:
        DataUnavailable: No such folder, or no images in it.
        InvalidData: Fewer than two classes, or an unknown class in the test split.
        CorruptData: An image does not decode; the message names the file.
        InvalidOption: `size` is none, or above 1024.
    """
    asked = asked_size("folder", size)
    listing = _list(path, test, seed)
    pixels = torch.from_numpy(decoded(path, listing.files, asked, mode))
    train, held = (slice(0, listing.num_train), slice(listing.num_train, None))
    return Splits(Split(pixels[train], listing.labels[train]), Split(pixels[held], listing.labels[held]), listing.classes)


def asked_size(owner: str, text: str) -> tuple[int, int] | None:
    """What an option `size` asks for: (height, width), or None for `auto`.

    Raises:
        InvalidOption: It asks for no size of at most 1024 pixels a side.
    """
    if text == "auto":
        return None
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text)
    sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= min(sides) <= max(sides) <= _LARGEST:
        raise InvalidOption(f"{owner}: got size={text}, expected auto, PIXELS or HEIGHTxWIDTH of at most {_LARGEST} each")
    return sides


def _list(root: Path, share: float, seed: int) -> _Listing:
    if not root.is_dir():
        raise DataUnavailable(f"{root}: no such folder; write folder:DIR with a folder that holds one folder a class")
    has_train = (root / "train").is_dir()
    held_root = next((root / name for name in HELD_OUT if has_train and (root / name).is_dir()), None)
    by_class = _by_class(root / "train" if has_train else root)
    classes = tuple(by_class)
    if len(classes) < 2:
        got = f"the class folder {classes[0]} only" if classes else "no class folder"
        raise InvalidData(f"{root}: got {got}, expected at least 2; put the images of each class in its own folder")
    files, labels = _flatten(by_class, classes)
    if held_root is None:
        rest, held = stratified(labels, share, torch.Generator().manual_seed(seed))
        order = torch.cat((rest, held))
        return _Listing([files[i] for i in order.tolist()], labels[order], len(rest), classes)
    held_by_class = _by_class(held_root)
    unknown = sorted(set(held_by_class) - set(classes))
    if unknown:
        raise InvalidData(
            f"{held_root / unknown[0]}: got a class that the train folder lacks, expected one of {', '.join(classes)}"
        )
    held_files, held_labels = _flatten(held_by_class, classes)
    return _Listing(files + held_files, torch.cat((labels, held_labels)), len(files), classes)


def _by_class(root: Path) -> dict[str, list[Path]]:
    found = {}
    for place in sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        files = (file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
        found[place.name] = sorted(files)
        if not found[place.name]:
            raise DataUnavailable(
                f"{place}: got no images, expected {', '.join(sorted(SUFFIXES))}; add some or remove the folder"
            )
    return found


def _flatten(by_class: dict[str, list[Path]], classes: tuple[str, ...]) -> tuple[list[Path], Tensor]:
    pairs = [(file, label) for label, name in enumerate(classes) for file in by_class.get(name, [])]
    return [file for file, _ in pairs], torch.tensor([label for _, label in pairs])


def decoded(root: Path, files: Sequence[Path], size: tuple[int, int] | None, mode: str) -> np.ndarray:
    """The images as uint8 (examples, channels, height, width), from the cache or decoded into it.

    Args:
        root: Folder that holds them all.
        files: The images, in order.
        size: Height and width, or None for the size that they share or else a square of about that size.
        mode: `auto`, `L` or `RGB`.

    Raises:
        CorruptData: An image does not decode; the message names the file.
    """
    options = _digest([str(root.resolve()), size, mode])
    states = [(str(file.relative_to(root)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    cached = cache_folder() / "images" / f"{options}-{_digest(states)}.npy"
    with suppress(OSError, ValueError, EOFError):
        return _mapped(cached, len(files))
    shape = _geometry(files, size, mode)
    try:
        with whole_file(cached) as partial:
            _decode_all(files, _reserve(partial, shape))
            for old in set(cached.parent.glob(f"{options}-*.npy")) - {cached}:  # which another process may just have written
                old.unlink(missing_ok=True)
        return _mapped(cached, len(files))
    except DeepforwardError:
        raise
    except OSError as error:
        got = f"decoded images cannot be cached in {cached.parent} ({error.strerror})"
        warnings.warn(f"{got}; they are held in memory and decoded each time", DeepforwardWarning, stacklevel=2)
    pixels = np.empty(shape, np.uint8)
    _decode_all(files, pixels)
    return pixels


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:24]


def _mapped(path: Path, count: int) -> np.ndarray:
    # "c" (copy on write) because torch has no read-only tensors; nobody's write reaches the file.
    pixels: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or len(pixels) != count:
        raise ValueError
    return pixels


def _reserve(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    # Writing to a map on a full disk kills the process, so the room is asked for first.
    if shutil.disk_usage(path.parent).free < math.prod(shape) + (1 << 20):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _geometry(files: Sequence[Path], size: tuple[int, int] | None, mode: str) -> tuple[int, int, int, int]:
    is_grey = mode == "L"
    if size is None or mode == "auto":
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            seen = list(pool.map(describe, files))
        is_grey = is_grey or (mode == "auto" and all(grey for _, _, grey in seen))
        size = size or _common_size([(height, width) for height, width, _ in seen])
    return len(files), 1 if is_grey else 3, *size


def _common_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    if len(set(sizes)) == 1 and max(sizes[0]) <= _LARGEST_AUTOMATIC:
        return sizes[0]
    side = min(round(statistics.median(min(size) for size in sizes)), _LARGEST_AUTOMATIC)
    return side, side


def _decode_all(files: Sequence[Path], out: np.ndarray) -> None:
    _, channels, height, width = out.shape

    def fill(index: int) -> None:
        out[index] = decode(files[index], height, width, is_grey=channels == 1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(fill, range(len(files))):
            pass

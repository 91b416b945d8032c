"""Images and the class of each of their pixels, from two folders of files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from deepforward.data.checks import IGNORED
from deepforward.data.dataset import Split, Splits
from deepforward.data.folder import HELD_OUT, SUFFIXES, asked_size, decoded
from deepforward.data.images import describe, opened
from deepforward.data.spec import Seed, Share
from deepforward.data.splitting import stratified
from deepforward.errors import DataUnavailable, InvalidData

_NAMES = "classes.txt"

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Pair(NamedTuple):
    image: Path
    mask: Path


class _Mask(NamedTuple):
    """A mask of the size asked for: the values or colours (0xRRGGBB) in its file, and which of them each pixel has."""

    path: Path
    codes: np.ndarray
    which: np.ndarray


class _Coding(NamedTuple):
    """Class names, and the class index, or `IGNORED`, of each value or colour."""

    names: tuple[str, ...]
    indices: dict[int, int]
    expected: str


def masks(
    path: Path, *, size: str = "auto", mode: Literal["auto", "L", "RGB"] = "auto", test: Share = 0.25, seed: Seed = 0
) -> Splits:
    """Images (channels, height, width) uint8 of folder `images` with the masks of the same names in folder `masks`.

    If `path` has a folder `train`, both are looked for in there, and those of the test split in `test` or `val` beside it.
    Masks are palette images or grey ones of up to 16 bits, whose values are class indices, or colour images. A file
    `classes.txt` in `path` names a class a line, those of colours as `NAME #RRGGBB`, where the name `ignored` stands for
    pixels without a class. Without it, each value or colour that occurs is a class. A value of 255 is no class, unless 0 and
    255 are all there are.

    Args:
        path: The folder.
        size: As for `folder`; masks are cropped likewise, and a pixel gets the class of the nearest one.
        mode: One channel or three; `auto` is one if all images are grey.
        test: Share of the images in the test split, where the folder does not say.
        seed: Chooses the test split.

    Raises:
        DataUnavailable: No such folder, or no images in it.
        InvalidData: An image without a mask or the reverse, a mask of another size, or one that holds no classes.
        CorruptData: A file does not decode; the message names it.
        InvalidOption: `size` is none, or above 1024.
    """
    asked = asked_size("masks", size)
    if not path.is_dir():
        raise DataUnavailable(f"{path}: no such folder; write masks:DIR with a folder that holds folders images and masks")
    has_train = (path / "train").is_dir()
    held = next((path / name for name in HELD_OUT if has_train and (path / name).is_dir()), None)
    first = _pairs(path / "train" if has_train else path)
    pairs = first + (_pairs(held) if held is not None else [])
    _in_parallel(_check_size, pairs)
    inputs = torch.from_numpy(decoded(path, [pair.image for pair in pairs], asked, mode))
    targets, classes = _targets(path / _NAMES, [pair.mask for pair in pairs], (inputs.shape[2], inputs.shape[3]))
    if held is not None:
        cut = len(first)
        return Splits(Split(inputs[:cut], targets[:cut]), Split(inputs[cut:], targets[cut:]), classes)
    whole = Split(inputs, targets)
    rest, others = stratified(targets, test, torch.Generator().manual_seed(seed))
    return Splits(whole.select(rest), whole.select(others), classes)


def _in_parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


def _pairs(place: Path) -> list[_Pair]:
    images, found = _by_name(place / "images"), _by_name(place / "masks")
    for mine, others, word, missing in ((images, found, "mask", "masks"), (found, images, "image", "images")):
        alone = sorted(mine.keys() - others.keys())
        if alone:
            file = mine[alone[0]]
            raise InvalidData(
                f"{file}: got no {word} '{alone[0]}' in {place / missing}, expected one; add it or remove the file"
            )
    return [_Pair(images[name], found[name]) for name in sorted(images)]


def _by_name(place: Path) -> dict[str, Path]:
    """Image files below a folder by their path without its ending."""
    if not place.is_dir():
        raise DataUnavailable(f"{place}: no such folder; masks:DIR needs the folders images and masks, or both in train")
    found: dict[str, Path] = {}
    for file in sorted(place.rglob("*")):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
            name = str(file.relative_to(place).with_suffix(""))
            if name in found:
                raise InvalidData(
                    f"{file}: got a second file named '{name}', expected one beside {found[name].name}; remove one"
                )
            found[name] = file
    if not found:
        raise DataUnavailable(f"{place}: got no images, expected {', '.join(sorted(SUFFIXES))}; add some")
    return found


def _check_size(pair: _Pair) -> None:
    (height, width, _), (rows, columns, _) = describe(pair.image), describe(pair.mask)
    if (height, width) != (rows, columns):
        raise InvalidData(
            f"{pair.mask}: got a mask of {rows}x{columns} pixels, expected {height}x{width} as {pair.image.name} has; "
            "make it the size of its image"
        )


def _targets(names: Path, files: Sequence[Path], size: tuple[int, int]) -> tuple[Tensor, tuple[str, ...]]:
    is_colour = any(_in_parallel(_has_colours, files))
    read = _in_parallel(lambda file: _read(file, is_colour, size), files)
    occurring = sorted(set().union(*(mask.codes.tolist() for mask in read)))
    coding = _named(names, occurring, is_colour) if names.is_file() else _unnamed(files[0].parent, occurring, is_colour)
    out = np.empty((len(files), *size), np.uint8)
    for number, mask in enumerate(read):
        for code in mask.codes.tolist():
            if code not in coding.indices:
                raise InvalidData(f"{mask.path}: got {_word(code, is_colour)}, expected {coding.expected}; correct the mask")
        out[number] = np.array([coding.indices[code] for code in mask.codes.tolist()], np.uint8)[mask.which]
    return torch.from_numpy(out), coding.names


def _has_colours(file: Path) -> bool:
    with opened(file) as image:
        return image.mode not in ("1", "L", "LA", "P", "PA", "I", "F") and not image.mode.startswith("I;16")


def _read(file: Path, is_colour: bool, size: tuple[int, int]) -> _Mask:
    with opened(file) as stored:
        image = ImageOps.exif_transpose(stored)
        if image.mode == "F":
            raise InvalidData(f"{file}: got a mask of floating-point numbers, expected whole ones or colours; convert it")
        if is_colour:
            values = np.asarray(image.convert("RGB")).astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
        else:
            values = np.asarray(image.getchannel(0) if image.mode in ("LA", "PA") else image).astype(np.int32)
    codes, which = np.unique(values, return_inverse=True)
    if len(codes) > IGNORED + 1:
        raise _too_many(file, len(codes), is_colour)
    local = Image.fromarray(which.reshape(values.shape).astype(np.uint8))
    if values.shape != size:
        local = ImageOps.fit(local, size[::-1], Image.Resampling.NEAREST)
    return _Mask(file, codes, np.asarray(local))


def _named(names: Path, occurring: Sequence[int], is_colour: bool) -> _Coding:
    """What `classes.txt` says."""
    lines = [line.split() for line in names.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not 1 < len(lines) <= IGNORED:
        raise InvalidData(f"{names}: got {len(lines)} classes, expected 2 to {IGNORED}, one a line; correct the file")
    if not is_colour:
        named = tuple(" ".join(words) for words in lines)
        indices = {index: index for index in range(len(named))} | {IGNORED: IGNORED}
        if len(named) == 2 and set(occurring) == {0, IGNORED}:
            indices[IGNORED] = 1
        return _Coding(named, indices, f"0 to {len(named) - 1} for the lines of {names.name}, or {IGNORED}")
    indices, found = {}, list[str]()
    for words in lines:
        if len(words) < 2 or not re.fullmatch(r"#[0-9a-fA-F]{6}", words[-1]):
            raise InvalidData(
                f"{names}: got '{' '.join(words)}', expected NAME #RRGGBB since masks are in colours; add the colour"
            )
        name = " ".join(words[:-1])
        indices[int(words[-1][1:], 16)] = IGNORED if name == "ignored" else len(found)
        found += [] if name == "ignored" else [name]
    return _Coding(tuple(found), indices, f"a colour that {names.name} has")


def _unnamed(place: Path, occurring: Sequence[int], is_colour: bool) -> _Coding:
    """Each value or colour that occurs is a class."""
    has_ignored = not is_colour and IGNORED in occurring and list(occurring) != [0, IGNORED]
    classes = [code for code in occurring if not (has_ignored and code == IGNORED)]
    if len(classes) > IGNORED:
        raise _too_many(place, len(classes), is_colour)
    indices = {code: index for index, code in enumerate(classes)} | ({IGNORED: IGNORED} if has_ignored else {})
    return _Coding(tuple(f"#{code:06x}" if is_colour else str(code) for code in classes), indices, "a class")


def _too_many(place: Path, number: int, is_colour: bool) -> InvalidData:
    kind = "colours" if is_colour else "values"
    return InvalidData(
        f"{place}: got {number} {kind} in masks, expected at most {IGNORED} classes; save masks without loss, as PNG"
    )


def _word(code: int, is_colour: bool) -> str:
    return f"the colour #{code:06x}" if is_colour else f"the value {code}"

"""Tables with a header, one example a row: CSV by the standard library, Parquet by pyarrow."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepforward.data.checks import check_finite
from deepforward.data.dataset import Split, Splits
from deepforward.data.labels import Task, encoder
from deepforward.data.spec import Seed, Share
from deepforward.data.splitting import stratified
from deepforward.errors import CorruptData, DataUnavailable, InvalidData, MissingExtra, UnknownName, first_line

_MOST_CATEGORIES = 100
_DELIMITERS = ",;\t|"

#: Column name -> float64 numbers or text.
Columns = Mapping[str, np.ndarray]


def table(path: Path, *, target: str, drop: str = "", task: Task = "auto", test: Share = 0.25, seed: Seed = 0) -> Splits:
    """Rows of numbers (features,) in float32; a column of text becomes one column of 0 and 1 for each of its values.

    A column counts as numbers if most of its cells are; then a cell that is none is an error, as is an empty one.

    Args:
        path: A `.parquet` file, or text with comma, semicolon, tab or bar between cells.
        target: Column to predict.
        drop: Columns to leave out, with commas between.
        task: Whether targets are classes; `auto` says so of text, booleans, and up to 20 distinct whole numbers.
        test: Share of each class in the test split.
        seed: Chooses the test split.

    Raises:
        DataUnavailable: No such file.
        CorruptData: The file does not parse; the message names the row.
        InvalidData: An empty cell, a text among numbers, or too many categories; the message names column and row.
        UnknownName: The table lacks a column that an option names; the message offers those it has.
        MissingExtra: A Parquet file without pyarrow.
    """
    read = _read_parquet if path.suffix.lower() in (".parquet", ".pq") else _read_csv
    columns = _open(path, read)
    dropped = {name.strip() for name in drop.split(",")} if drop else set()
    for option, names in (("target", {target}), ("drop", dropped)):
        for name in sorted(names - set(columns)):
            raise UnknownName(f"column of {path} in {option}", name, columns)
    features = [name for name in columns if name != target and name not in dropped]
    if not features:
        raise InvalidData(f"{path}: got no column besides the target '{target}', expected at least one feature")
    inputs = torch.cat([_encode(path, name, columns[name]) for name in features], dim=1)
    place = f"{path}: column '{target}'"
    encode, classes = encoder(place, columns[target], task)
    whole = Split(inputs, encode(place, columns[target]))
    rest, held = stratified(whole.targets, test, torch.Generator().manual_seed(seed))
    return Splits(whole.select(rest), whole.select(held), classes)


def _open(path: Path, read: Callable[[Path], Columns]) -> Columns:
    if not path.is_file():
        raise DataUnavailable(f"{path}: no such file; write table:FILE?target=COLUMN with an existing file")
    columns = read(path)
    if not columns or not len(next(iter(columns.values()))):
        raise InvalidData(f"{path}: got no rows, expected a header and at least one row")
    return columns


def _encode(path: Path, name: str, values: np.ndarray) -> Tensor:
    if values.dtype.kind != "U":
        with np.errstate(over="ignore"):  # becomes infinite, which the check below reports
            numbers = torch.from_numpy(values.astype(np.float32)).unsqueeze(1)
        check_finite(f"{path}: column '{name}'", numbers)
        return numbers
    categories, indices = np.unique(values, return_inverse=True)
    if len(categories) > _MOST_CATEGORIES:
        got = f"{len(categories)} different texts in column '{name}'"
        raise InvalidData(f"{path}: got {got}, expected at most {_MOST_CATEGORIES}; leave it out with drop={name}")
    return torch.nn.functional.one_hot(torch.from_numpy(indices), len(categories)).float()


def _read_csv(path: Path) -> Columns:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            reader = csv.reader(stream, delimiter=max(_DELIMITERS, key=first.count), strict=True)
            header = [name.strip() for name in next(reader, [])]
            rows, lines = _rows(path, ((reader.line_num, row) for row in reader), len(header))
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorruptData(f"{path}: does not parse as a table in UTF-8 ({error}); save it again") from None
    if len(set(header)) < len(header):
        raise InvalidData(f"{path}: got a header with a name twice, expected different names: {', '.join(header)}")
    return {name: _column(path, name, cells, lines) for name, cells in zip(header, zip(*rows, strict=True), strict=False)}


def _rows(path: Path, numbered: Iterator[tuple[int, list[str]]], width: int) -> tuple[list[list[str]], list[int]]:
    """The rows that are not blank, and the line of the file that each ends on."""
    rows, lines = [], []
    for line, row in numbered:
        if len(row) == width:
            rows.append(row)
            lines.append(line)
        elif row:
            raise CorruptData(f"{path}: got {len(row)} cells in line {line}, expected {width} as in the header")
    return rows, lines


def _column(path: Path, name: str, cells: Sequence[str], lines: Sequence[int]) -> np.ndarray:
    texts = [cell.strip() for cell in cells]
    parsed = [_number(text) for text in texts]
    num_numbers = sum(number is not None for number in parsed)
    for text, number, line in zip(texts, parsed, lines, strict=True):
        place = f"line {line}, column '{name}'"
        if not text:
            raise InvalidData(f"{path}: got an empty cell in {place}; fill it or drop the row or the column")
        if number is None and num_numbers * 2 > len(texts):
            raise InvalidData(
                f"{path}: got '{text}' in {place}, expected a number as in most rows; correct it or drop the column"
            )
        if number is not None and not math.isfinite(number):
            raise InvalidData(f"{path}: got {text} in {place}, expected a finite number; correct it or drop the row")
    return np.array(parsed, dtype=np.float64) if num_numbers * 2 > len(texts) else np.array(texts)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _read_parquet(path: Path) -> Columns:
    try:
        import pyarrow  # noqa: PLC0415  (an extra)
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise MissingExtra(f"{path}: reading Parquet takes pyarrow; run pip install 'deepforward[parquet]'") from None
    try:
        content = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise CorruptData(f"{path}: does not decode as Parquet ({first_line(error)}); write it again") from None
    return {name: _arrow_column(path, name, content.column(name).to_pylist()) for name in content.column_names}


def _arrow_column(path: Path, name: str, values: list[object]) -> np.ndarray:
    if None in values:
        raise InvalidData(
            f"{path}: got no value at index {values.index(None)} of column '{name}'; fill it or drop the row or the column"
        )
    if all(isinstance(value, str) for value in values):
        return np.array(values, dtype=str)
    if not all(isinstance(value, (bool, int, float)) for value in values):
        raise InvalidData(
            f"{path}: got {type(values[0]).__name__} in column '{name}', expected numbers or text; use drop={name}"
        )
    return np.array(values, dtype=np.float64)

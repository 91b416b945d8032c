"""Tables: columns become features and targets; every wrong cell is named."""

from __future__ import annotations

import builtins

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from deepforward.data import load
from deepforward.errors import CorruptData, DataUnavailable, InvalidData, MissingExtra, UnknownName

ROWS = [(5.1, "red", 3), (4.9, "blue", 1), (6.0, "red", 3), (5.5, "green", 1), (7.0, "red", 3), (6.5, "blue", 1)]


def write(path, rows=ROWS, header=("acid", "colour", "quality"), delimiter=","):
    path.write_text("\n".join(delimiter.join(map(str, row)) for row in (header, *rows)) + "\n", encoding="utf-8")
    return path


def whole(data):
    inputs = torch.cat((data.train.inputs, data.test.inputs))
    targets = torch.cat((data.train.targets, data.test.targets))
    order = inputs[:, 0].argsort()
    return inputs[order], targets[order]


EXPECTED = sorted(ROWS)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_numbers_stay_and_text_becomes_indicators(tmp_path, delimiter):
    data = load(f"table:{write(tmp_path / 't.csv', delimiter=delimiter)}?target=quality&test=0.34")
    assert data.classes == ("1", "3")
    inputs, targets = whole(data)
    indicators = [[row[1] == colour for colour in ("blue", "green", "red")] for row in EXPECTED]
    assert inputs.tolist() == torch.tensor([[row[0], *hot] for row, hot in zip(EXPECTED, indicators, strict=True)]).tolist()
    assert targets.tolist() == [(row[2] - 1) // 2 for row in EXPECTED]


def test_a_parquet_file_is_the_same_table(tmp_path):
    columns = dict(zip(("acid", "colour", "quality"), zip(*ROWS, strict=True), strict=True))
    parquet.write_table(pyarrow.table({key: list(values) for key, values in columns.items()}), tmp_path / "t.parquet")
    first = load(f"table:{write(tmp_path / 't.csv')}?target=quality&test=0.34")
    second = load(f"table:{tmp_path / 't.parquet'}?target=quality&test=0.34")
    assert first.classes == second.classes
    assert torch.equal(first.train.inputs, second.train.inputs) and torch.equal(first.test.targets, second.test.targets)


def test_text_targets_and_dropped_columns(tmp_path):
    rows = [(i, f"name {i}", "ja" if i % 2 else "nein") for i in range(12)]
    path = write(tmp_path / "t.csv", rows, ("length", "who", "answer"))
    data = load(f"table:{path}?target=answer&drop=who")
    assert (data.classes, data.shape) == (("ja", "nein"), (1,))
    inputs, targets = whole(data)
    assert targets.tolist() == [1 - int(i) % 2 for i in inputs[:, 0].tolist()]


def test_many_values_are_a_regression(tmp_path):
    path = write(tmp_path / "t.csv", [(i, 2 * i) for i in range(30)], ("x", "y"))
    data = load(f"table:{path}?target=y")
    assert data.classes == ()
    inputs, targets = whole(data)
    assert torch.equal(targets, 2 * inputs[:, 0])


def test_a_few_numbers_can_be_a_regression(tmp_path):
    data = load(f"table:{write(tmp_path / 't.csv')}?target=quality&task=regression")
    assert data.classes == () and set(data.train.targets.tolist()) <= {1.0, 3.0}


def test_quotes_blank_lines_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('\ufeff"a, b",y\n"1", no\n\n2,yes\n 3 ,no\n4,yes\n', encoding="utf-8")
    inputs, targets = whole(load(f"table:{path}?target=y&drop=&test=0.5"))
    assert (inputs.tolist(), targets.tolist()) == ([[1.0], [2.0], [3.0], [4.0]], [0, 1, 0, 1])


def test_columns_that_are_not_there(tmp_path):
    path = write(tmp_path / "t.csv")
    for options, option, name, near in (
        ("target=qualty", "target", "qualty", "quality"),
        ("target=quality&drop=acid,color", "drop", "color", "colour"),
    ):
        with pytest.raises(UnknownName) as caught:
            load(f"table:{path}?{options}")
        assert str(caught.value).startswith(f"unknown column of {path} in {option} '{name}'; did you mean {near}")


def cells(*changed):
    rows = [(1.0 + i, "ab"[i % 2]) for i in range(6)]
    for index, row in changed:
        rows[index] = row
    return rows


@pytest.mark.parametrize(
    ("rows", "error", "says"),
    [
        (cells((2, ("", "a"))), InvalidData, "got an empty cell in line 4, column 'x'"),
        (cells((3, (2, ""))), InvalidData, "got an empty cell in line 5, column 'y'"),
        (cells((1, ("NA", "a"))), InvalidData, "got 'NA' in line 3, column 'x', expected a number"),
        (cells((1, ("nan", "a"))), InvalidData, "got nan in line 3, column 'x', expected a finite number"),
        (cells((5, ("-inf", "a"))), InvalidData, "got -inf in line 7, column 'x', expected a finite number"),
        (cells((4, (1, "a", "b"))), CorruptData, "got 3 cells in line 6, expected 2 as in the header"),
        (cells((5, ("1e300", "a"))), InvalidData, "column 'x': got inf at example 5"),
        ([], InvalidData, "got no rows"),
        ([(i, "a") for i in range(8)], InvalidData, r"got one class \('a'\)"),
        ([(f"word {i}", "ab"[i % 2]) for i in range(101)], InvalidData, "got 101 different texts in column 'x', .* drop=x"),
    ],
)
def test_wrong_cells_are_named(tmp_path, rows, error, says):
    path = write(tmp_path / "t.csv", rows, ("x", "y"))
    with pytest.raises(error, match=says) as caught:
        load(f"table:{path}?target=y")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_regression_on_text(tmp_path):
    with pytest.raises(InvalidData, match="column 'colour': got text as target of a regression"):
        load(f"table:{write(tmp_path / 't.csv')}?target=colour&task=regression")


def test_headers(tmp_path):
    with pytest.raises(InvalidData, match="a name twice"):
        load(f"table:{write(tmp_path / 't.csv', header=('a', 'a', 'y'))}?target=y")
    with pytest.raises(InvalidData, match="got no column besides the target"):
        load(f"table:{write(tmp_path / 't.csv', [(1,), (2,)], ('y',))}?target=y")


@pytest.mark.parametrize("content", [b"a,y\n\xff\xfe,1\n", b'a,y\n"open,1\n'])
def test_files_that_are_no_table(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(CorruptData, match="does not parse as a table"):
        load(f"table:{tmp_path / 't.csv'}?target=y")


def test_an_empty_and_a_missing_file(tmp_path):
    with pytest.raises(DataUnavailable, match="no such file"):
        load(f"table:{tmp_path / 'none.csv'}?target=y")
    (tmp_path / "t.csv").write_bytes(b"")
    with pytest.raises(InvalidData, match="got no rows"):
        load(f"table:{tmp_path / 't.csv'}?target=y")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1.0, None, 2.0, 3.0], "got no value at index 1 of column 'x'"),
        ([1.0, 2.0, float("nan"), 3.0], "column 'x': got nan at example 2"),
        ([[1], [2], [3], [4]], "got list in column 'x', expected numbers or text"),
    ],
)
def test_wrong_parquet_columns_are_named(tmp_path, values, says):
    parquet.write_table(pyarrow.table({"x": values, "y": [0, 1, 0, 1]}), tmp_path / "t.parquet")
    with pytest.raises(InvalidData, match=says):
        load(f"table:{tmp_path / 't.parquet'}?target=y")


def test_a_parquet_file_cut_short(tmp_path):
    parquet.write_table(pyarrow.table({"x": np.arange(9.0), "y": np.arange(9) % 2}), tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-9])
    with pytest.raises(CorruptData, match="does not decode as Parquet"):
        load(f"table:{tmp_path / 't.parquet'}?target=y")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    real = builtins.__import__

    def without(name, *args):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"deepforward\[parquet\]"):
        load(f"table:{tmp_path / 't.parquet'}?target=y")

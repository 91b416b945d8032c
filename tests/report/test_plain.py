import numpy as np
import pytest

from deepforward.report.plain import DASH, MINUS, TIMES, counted, plain


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (None, "", DASH),
        (float("nan"), ".3f", DASH),
        (float("inf"), "", "∞"),
        (float("-inf"), ".3f", f"{MINUS}∞"),
        (True, "", "yes"),
        (3, "", "3"),
        (269722, ",", "269,722"),
        (0.953, ".1%", "95.3%"),
        (-0.5, "", f"{MINUS}0.5"),
        (1.234567e-9, "", f"1.235 {TIMES} 10⁻⁹"),
        (-2e30, "", f"{MINUS}2 {TIMES} 10³⁰"),
        (np.float32(0.25), "", "0.25"),
        (np.int64(7), "", "7"),
        ((1, 28, 28), "", "1, 28, 28"),
        ((), "", DASH),
        ({}, "", DASH),
        ({"depth": 56, "dropout": None}, "", f"depth=56, dropout={DASH}"),
        (np.array([1.0, 2.0]), "", "1, 2"),
        ("text", ".3f", "text"),
    ],
)
def test_plain(value, spec, text):
    assert plain(value, spec) == text


def test_one_thing_is_not_many():
    assert [counted(number, "epoch") for number in (0, 1, 2)] == ["0 epochs", "1 epoch", "2 epochs"]

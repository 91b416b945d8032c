"""Specifications: parsing, typing, and what each wrong one says."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepforward.data.spec import Range, arguments, parse
from deepforward.errors import InvalidOption, UnknownName

_NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1)
_VALUES = st.text("abcdefghij0123456789./-_ ", max_size=8)


def source(*, n: Annotated[int, Range(1)] = 3, noise: float = 0.0, mode: Literal["L", "RGB"] = "L", size: int | None = None):
    return n, noise, mode, size


@given(_NAMES, st.none() | st.text("abc/.:?= é", min_size=1), st.dictionaries(_NAMES, _VALUES, min_size=1))
def test_parse_undoes_writing(name, path, options):
    text = name + (f":{path}" if path is not None else "") + "?" + "&".join(f"{k}={v}" for k, v in options.items())
    assert parse(text) == (name, path, options)


def test_parts_may_be_missing():
    assert parse("digits") == ("digits", None, {})
    assert parse("digits?") == ("digits", None, {})
    assert parse("folder:C:\\photos") == ("folder", "C:\\photos", {})
    assert parse("table:t.csv?target=R%26D") == ("table", "t.csv", {"target": "R&D"})


@pytest.mark.parametrize(("text", "says"), [("rings?noise", "'noise'"), ("rings?=3", "'=3'"), ("rings?n=1&n=2", "got n twice")])
def test_what_is_no_option_is_refused(text, says):
    with pytest.raises(InvalidOption, match=says):
        parse(text)


def test_options_take_the_types_of_the_signature():
    assert arguments("s", source, {"n": "7", "noise": ".5", "mode": "RGB", "size": "8"}) == {
        "n": 7,
        "noise": 0.5,
        "mode": "RGB",
        "size": 8,
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n": "0"}, "got n=0, expected a whole number of at least 1"),
        ({"n": "2.5"}, "got n=2.5, expected a whole number of at least 1"),
        ({"size": "big"}, "got size=big, expected a whole number"),
        ({"noise": "nan"}, "got noise=nan, expected a number"),
        ({"noise": "inf"}, "got noise=inf, expected a number"),
        ({"mode": "CMYK"}, "got mode=CMYK, expected one of L, RGB"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_accepted(options, says):
    with pytest.raises(InvalidOption) as caught:
        arguments("s", source, options)
    assert str(caught.value) == f"s: {says}"


def test_an_unknown_option_is_offered_its_neighbours():
    with pytest.raises(UnknownName, match=r"^unknown option of s 'nose'; did you mean noise"):
        arguments("s", source, {"nose": "1"})


def test_ends_may_be_excluded():
    assert 1 in Range(0, 1) and 1 not in Range(0, 1, exclusive=True)
    assert str(Range(0, 1, exclusive=True)) == "between 0 and 1, ends excluded"

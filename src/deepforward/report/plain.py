"""Values as text for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def plain(value: Any, spec: str = "") -> str:
    """A value in a table or sentence: four significant digits, a dash for None and NaN, powers of ten written as such.

    Args:
        value: A number, text, mapping, sequence, array or None.
        spec: Format specification of Python for a number; what is not a number ignores it.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number(value, spec)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={plain(item)}" for key, item in value.items()) or DASH
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(plain(item) for item in value) or DASH
    return DASH if value is None else str(value)


def counted(number: int, noun: str) -> str:
    """A number of things, the noun in the plural where it must be."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def power_of_ten(exponent: int) -> str:
    """`10` with the exponent set high."""
    return f"10{str(exponent).translate(SUPERSCRIPTS)}"


def _number(value: float, spec: str) -> str:
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    mantissa, e, exponent = format(value, spec or (".4g" if isinstance(value, float) else "d")).partition("e")
    mantissa = mantissa.replace("-", MINUS)
    return f"{mantissa} {TIMES} {power_of_ten(int(exponent))}" if e else mantissa

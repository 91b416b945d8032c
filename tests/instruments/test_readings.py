"""Readings survive JSON."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepforward.instruments import Readings


@given(arrays(np.float64, (3, 2), elements=st.floats(width=64)))
def test_json_keeps_six_digits_and_every_special_value(numbers: np.ndarray) -> None:
    readings = Readings(
        layers=("0#0", "relu#1"),
        kinds=("Linear", "ReLU"),
        steps=(0, 1, 7),
        values={"gradient_rms": numbers},
        origins=({"step": 7, "layer": "relu#1", "kind": "ReLU", "place": "output"},),
    )
    text = readings.to_json()
    json.loads(text, parse_constant=lambda constant: 1 / 0)  # NaN and Infinity are no JSON
    back = Readings.from_json(text)
    np.testing.assert_allclose(back.values["gradient_rms"], numbers, rtol=5e-6)
    assert (back.layers, back.kinds, back.steps, back.origins) == (
        readings.layers,
        readings.kinds,
        readings.steps,
        readings.origins,
    )
    assert back.to_json() == text


def test_readings_of_nothing() -> None:
    empty = Readings(layers=(), kinds=(), steps=(), values={})
    assert Readings.from_json(empty.to_json()) == empty

"""What was sampled so far, thinned so that it never outgrows its capacity."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deepforward.instruments.readings import Readings

#: layer key -> statistic -> number
Step = Mapping[str, Mapping[str, float]]


class Record:
    """Sampled steps, at most `capacity`: when full, every other one is dropped."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._steps: dict[int, Step] = {}

    def add(self, step: int, layers: Step) -> bool:
        """Keep a sampled step; tells whether the record was thinned to make room."""
        self._steps[step] = layers
        if len(self._steps) <= self._capacity:
            return False
        self._steps = {step: self._steps[step] for step in list(self._steps)[::2]}
        return True

    def readings(self, kinds: Mapping[str, str], origins: tuple[Mapping[str, object], ...]) -> Readings:
        """All kept steps as arrays; `kinds` maps a layer's name to its class name."""
        layers = list(dict.fromkeys(layer for step in self._steps.values() for layer in step))
        statistics = dict.fromkeys(name for step in self._steps.values() for numbers in step.values() for name in numbers)
        values = {
            name: np.array(
                [[step.get(layer, {}).get(name, np.nan) for layer in layers] for step in self._steps.values()], dtype=np.float64
            )
            for name in statistics
        }
        return Readings(
            layers=tuple(layers),
            kinds=tuple(kinds[layer.rpartition("#")[0]] for layer in layers),
            steps=tuple(self._steps),
            values=values,
            origins=origins,
        )

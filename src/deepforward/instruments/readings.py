"""What instruments give: numbers by layer and step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Readings:
    """Numbers by sampled step and layer.

    Attributes:
        layers: Keys `name#call` of the leaf calls, in the order of the forward pass.
        kinds: Class name of each layer's module (`Linear`, `ReLU`, ...), parallel to `layers`.
        steps: Training steps that were sampled.
        values: Statistic name -> float64 array (steps, layers); NaN where a layer has no such statistic, inf where the number
            itself was NaN or infinite. The instruments' docstrings define the statistics: `activation_rms`, `gradient_rms`,
            `parameter_gradient_norm`, `parameter_rms`, `update_ratio`, `dead_share`, `saturated_share`. What belongs to
            parameters stands at the layer's first call.
        origins: For a non-finite number: {"step", "layer", "kind", "place"}, the first producer (inputs finite, output not);
            `place` is "input" (the batch), "parameter", "output" or "gradient". Empty if all was finite.
    """

    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    steps: tuple[int, ...]
    values: Mapping[str, np.ndarray]
    origins: tuple[Mapping[str, object], ...] = field(default=())

    def followed_by(self, later: Readings) -> Readings:
        """These readings and later ones of the same network as one; a step that both hold is taken from the later."""
        if later.layers != self.layers or not later.steps:
            return later if later.steps or later.origins else self
        kept = [i for i, step in enumerate(self.steps) if step < later.steps[0]]
        absent = np.full((len(kept), len(self.layers)), np.nan)
        return Readings(
            layers=self.layers,
            kinds=self.kinds,
            steps=tuple(self.steps[i] for i in kept) + later.steps,
            values={
                name: np.concatenate([self.values[name][kept] if name in self.values else absent, array])
                for name, array in later.values.items()
            },
            origins=tuple(self.origins) + tuple(later.origins),
        )

    def to_json(self) -> str:
        """All numbers as JSON; NaN and infinities become the strings "nan", "inf", "-inf"."""

        def plain(x: float) -> float | str:
            return float(f"{x:.6g}") if np.isfinite(x) else str(float(x))

        return json.dumps(
            {
                "layers": self.layers,
                "kinds": self.kinds,
                "steps": self.steps,
                "values": {name: [[plain(x) for x in row] for row in array] for name, array in self.values.items()},
                "origins": self.origins,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Readings:
        """Inverse of `to_json`."""
        raw = json.loads(text)
        shape = (len(raw["steps"]), len(raw["layers"]))
        return cls(
            layers=tuple(raw["layers"]),
            kinds=tuple(raw["kinds"]),
            steps=tuple(raw["steps"]),
            values={
                name: np.array([[float(x) for x in row] for row in rows], dtype=np.float64).reshape(shape)
                for name, rows in raw["values"].items()
            },
            origins=tuple(raw["origins"]),
        )

"""A Recipe: all that fixes a run, as plain values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deepforward import catalogue
from deepforward.errors import InvalidOption

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
SWITCH = ("auto", "on", "off")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Names and arguments that fix a training run; saved, compared, and changed with `replace`.

    A field that is None is filled by `complete` from the model's card, else from `DEFAULTS`. Two equal complete recipes give the
    same bits on the same machine.

    Attributes:
        model: Name of a card, or `file.py:factory`.
        model_options: Keyword arguments of the model's factory.
        alterations: Changes made to the built module, in order, each `name` or `name?key=value` (see `layers.alteration`); this
            is how a prescription reaches any module, a stranger's too.
        data: Source specification `family[:path][?key=value]`.
        scaling: `none`, `standardise`, `min-max`, `softmax`; fitted on the training split only.
        validation: Share of the training split held out, in [0, 1).
        objective, objective_options: Training signal and its arguments.
        epochs: Passes over the training split.
        batch_size: Examples a step.
        optimizer, optimizer_options: Card name and keyword arguments besides the rate.
        learning_rate: Peak rate, or "find" to let the finder choose it before the run.
        weight_decay: L2 penalty (SGD) or decoupled decay (AdamW).
        schedule, schedule_options: `constant`, `cosine`, `one-cycle`, `step`.
        clip: Threshold of the global gradient norm, or None for no clipping.
        patience: Epochs without improvement on the validation split before stopping, or None.
        precision: `auto`, `fp32`, `bf16`, `fp16`.
        channels_last, compile: `auto`, `on`, `off`.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        threads: Threads of the arithmetic on CPU; 0 is torch's own choice. Part of the recipe because sums depend on it.
        probe_budget: Share of the step time that the always-on instruments may cost; 0 switches them off.
        seed: Fixes initialisation, order of the data and every other random draw.
    """

    model: str
    model_options: Mapping[str, Any] = field(default_factory=dict)
    alterations: tuple[str, ...] = ()
    data: str = "digits"
    scaling: str = "standardise"
    validation: float = 0.0
    objective: str | None = None
    objective_options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float | str | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    schedule_options: Mapping[str, Any] = field(default_factory=dict)
    clip: float | None = None
    patience: int | None = None
    precision: str = "auto"
    channels_last: str = "auto"
    compile: str = "auto"
    device: str = "auto"
    threads: int = 0
    probe_budget: float = 0.02
    seed: int = 0

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """The recipe as indented JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)

"""How often is the clinic right? Random networks, healthy or ill in one known way, that no rule was tuned on.

Everything about a case is drawn from its seed: what is wrong with it (or nothing), dense or convolutional, depth, width,
activation, initialisation, normalisation, skips, optimiser, rate, data and their scaling. The draw says what ought to be wrong,
training says whether anything is: a case counts as ill if it was made ill and removes less than 0.6 of the chance loss that a
sound network of three layers removes in as many epochs, and as healthy if it was made sound and removes 0.8 of that or more.
What lies between is neither, and is left out and counted. Rules were tuned on seeds below 30 000; those reported begin there.

- precision: findings that name the planted cause, of all findings in ill and healthy networks.
- recall: ill networks whose cause is named.
- false alarms: healthy networks with a finding, after training and, looked at as a bare module, before it.
- cured: ill networks for which `cure` proves a change, of the first of them (each costs some twenty short trainings); and how
  much more that change brings than one drawn at random, on the same seeds and for as many epochs.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comparison import Row, arguments, publish, stated
from scipy.stats import binomtest

from deepforward.clinic import Evidence, cure, diagnose
from deepforward.clinic.comparison import against_random
from deepforward.clinic.illnesses import STACK
from deepforward.clinic.trials import fit_anyway, interval
from deepforward.data import Dataset, load
from deepforward.engine import Recipe
from deepforward.engine.building import build_model
from deepforward.engine.randomness import isolated

FIRST_HELD_OUT = 30_000

#: Cause -> rules that name it.
CAUSES: dict[str, tuple[str, ...]] = {
    "default weights, too deep": ("vanishing",),
    "weights too small": ("vanishing",),
    "weights too large": ("exploding",),
    "batch normalisation without skips": ("exploding",),
    "inputs alike in the depth": ("rank-collapse",),
    "a dead layer": ("dead-units",),
    "saturated units": ("saturation", "exploding"),
    "rate too large": ("long-steps", "not-finite"),
    "rate too small": ("no-progress",),
    "inputs not scaled": ("unscaled-inputs",),
}
SOUND = "nothing"

MOMENTUM = {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9, "nesterov": True}}

#: Critical weight and bias variance of each activation.
CRITICAL = {"relu": (2.0, 0.0), "gelu": (1.983, 0.173), "selu": (1.0, 0.0), "tanh": (1.0, 0.0), "sigmoid": (1.0, 0.0)}


@dataclass
class Draw:
    """What one seed draws."""

    rng: torch.Generator

    def among(self, *values: Any) -> Any:
        """One of them; give one twice for twice the chance."""
        return values[int(torch.randint(len(values), (), generator=self.rng))]

    def whole(self, low: int, high: int) -> int:
        """An integer of this range, both ends included."""
        return int(torch.randint(low, high + 1, (), generator=self.rng))

    def between(self, low: float, high: float) -> float:
        """A number whose logarithm is uniform."""
        return float(f"{low * (high / low) ** float(torch.rand((), generator=self.rng)):.3g}")


def case(seed: int) -> tuple[str, Recipe]:
    """The planted cause (every third seed: none) and the recipe that a seed stands for."""
    draw = Draw(torch.Generator().manual_seed(seed))
    cause = SOUND if seed % 3 == 0 else list(CAUSES)[(seed - seed // 3) % len(CAUSES)]
    kind = draw.among("dense", "dense", "convolutional")
    data = "digits" if kind == "convolutional" else draw.among("digits", "digits", "rings?n=2000", "spirals?n=2000")
    width = draw.whole(12, 20) if kind == "convolutional" else draw.among(24, 32, 48, 64)
    options: dict[str, Any] = {"kind": kind, "width": width, "activation": draw.among("relu", "gelu", "selu", "tanh")}
    fields: dict[str, Any] = {"learning_rate": draw.between(0.02, 0.08), "batch_size": 64, **MOMENTUM}
    if draw.among(False, False, True):
        fields |= {"learning_rate": draw.between(0.001, 0.004), "optimizer": "adam", "optimizer_options": {}}
    _plant(cause, draw, options, fields)
    epochs = {"digits": 4}.get(data, 20)
    return cause, Recipe(model=STACK, model_options=options, data=data, epochs=epochs, seed=seed, threads=1, **fields)


def _plant(cause: str, draw: Draw, options: dict[str, Any], fields: dict[str, Any]) -> None:
    """Make the network sound, or ill in one way."""
    convolutional = options["kind"] == "convolutional"
    critical, bias = CRITICAL[options["activation"]]
    sound = {"depth": draw.whole(2, 6), "weight_variance": critical, "bias_variance": bias}
    deep = draw.whole(10, 14) if convolutional else draw.whole(16, 40)
    if cause == SOUND:
        form = draw.among("plain", "default", "normalised", "residual", "deep")
        fields["scaling"] = draw.among("standardise", "standardise", "min-max")
        if form == "normalised":
            options |= {"depth": draw.whole(2, 6), "normalized": True}
        elif form == "default":
            options |= {"depth": draw.whole(1, 3)}
        elif form == "residual":
            options |= {"depth": deep, "residual": True, "weight_variance": critical}
        elif form == "deep":
            options |= {"activation": "tanh", "depth": draw.whole(6, 10) if convolutional else draw.whole(8, 20)}
            options |= {"weight_variance": 1.0}
        else:
            options |= sound
    elif cause == "default weights, too deep":
        options |= {"depth": deep}
    elif cause == "weights too small":
        options |= {"depth": deep, "weight_variance": critical * draw.between(0.15, 0.5)}
    elif cause == "weights too large":
        factor = draw.between(3.0, 6.0) if options["activation"] == "tanh" else draw.between(1.8, 3.0)
        options |= {"depth": deep, "weight_variance": critical * factor}
    elif cause == "batch normalisation without skips":
        options |= {"activation": draw.among("relu", "gelu"), "depth": max(deep, 30), "width": 16, "normalized": True}
        if convolutional:
            options |= {"kind": "dense", "width": 16}
    elif cause == "inputs alike in the depth":
        options |= {"kind": "dense", "activation": draw.among("relu", "gelu"), "depth": draw.whole(28, 44)}
        options |= {"width": draw.among(32, 48, 64)}
        options |= dict(zip(("weight_variance", "bias_variance"), CRITICAL[options["activation"]], strict=True))
    elif cause == "a dead layer":
        options |= {"activation": "relu", "depth": draw.whole(3, 6)}
        options |= {"dead": draw.whole(1, options["depth"])}
    elif cause == "saturated units":
        options |= {"activation": "tanh", "depth": draw.whole(3, 6), "weight_variance": draw.between(150.0, 2000.0)}
    elif cause == "rate too large":
        options |= sound
        fields["learning_rate"] *= draw.between(50.0, 1000.0)
    elif cause == "rate too small":
        options |= sound
        fields["learning_rate"] *= draw.between(1e-5, 3e-4)
    else:
        options |= sound
        fields["scaling"] = "none"


@dataclass
class Result:
    """One case, trained and judged.

    Attributes:
        seed: What it was drawn from.
        cause: What was planted.
        progress, reference: Share of the chance loss that it removed, and that a sound network removed.
        found, before: Rules that found something in the trained run, and in the bare module before.
    """

    seed: int
    cause: str
    progress: float
    reference: float
    found: tuple[str, ...]
    before: tuple[str, ...]

    @property
    def named(self) -> bool:
        """Whether a finding names what was planted."""
        return any(rule in CAUSES.get(self.cause, ()) for rule in self.found)

    @property
    def label(self) -> str:
        """`ill`, `healthy` or `neither`: what training says of what was planted."""
        share = self.progress / self.reference
        if self.cause == SOUND:
            return "healthy" if share >= 0.8 else "neither"
        return "ill" if share < 0.6 else "neither"


def data_of(cause: str, recipe: Recipe) -> Dataset:
    """The recipe's data; for the one cause that lies in them, in units or about a centre that suit no network."""
    data = load(recipe.data)
    if cause != "inputs not scaled":
        return data
    draw = Draw(torch.Generator().manual_seed(recipe.seed + 1))
    inputs = data.train.inputs.double()
    factor, offset = draw.among((draw.between(20, 300), 0.0), (draw.between(0.001, 0.02), 0.0), (1.0, draw.between(10, 50)))
    scaled = {}
    for name in ("train", "test"):
        split = getattr(data, name)
        x = (split.inputs.float() - float(inputs.mean())) / float(inputs.std())
        scaled[name] = replace(split, inputs=factor * x + offset)
    return replace(data, **scaled)


_REFERENCES: dict[tuple[str, str, str], float] = {}


def reference(recipe: Recipe) -> float:
    """Progress of a sound network of three layers on the same data in as many epochs."""
    key = (recipe.data, recipe.model_options["kind"], recipe.model_options["activation"])
    if key not in _REFERENCES:
        variances = dict(zip(("weight_variance", "bias_variance"), CRITICAL[key[2]], strict=True))
        options = {"kind": key[1], "activation": key[2], "width": 32 if key[1] == "dense" else 16, "depth": 3, **variances}
        sound = recipe.replace(model_options=options, learning_rate=0.05, scaling="standardise", seed=0, **MOMENTUM)
        _REFERENCES[key] = trained(sound, load(recipe.data))[0].progress or 0.0
    return _REFERENCES[key]


def trained(recipe: Recipe, data: Dataset) -> tuple[Evidence, tuple[str, ...]]:
    """What a training left, and which rules found something in it."""
    with tempfile.TemporaryDirectory() as folder:
        run = fit_anyway(recipe, Path(folder) / "run", data, quiet=True)
        diagnosis = diagnose(run)
    return diagnosis.evidence, diagnosis.rules


def examined(recipe: Recipe, data: Dataset) -> tuple[str, ...]:
    """Which rules find something in the bare module, before any training."""
    with isolated(recipe.seed, torch.device("cpu")):
        model = build_model(recipe.model, recipe.model_options, data.shape, len(data.classes))
    return diagnose(model, data, scaling=recipe.scaling or "standardise").rules


def judged(seed: int) -> Result:
    """Train a case, and ask the clinic after training and before."""
    cause, recipe = case(seed)
    data = data_of(cause, recipe)
    evidence, found = trained(recipe, data)
    return Result(seed, cause, evidence.progress or 0.0, reference(recipe), found, examined(recipe, data))


def cured(seed: int) -> tuple[bool, float | None]:
    """Whether `cure` proves a change for a case, and how much more of the chance loss that removes than a random change."""
    cause, recipe = case(seed)
    with tempfile.TemporaryDirectory() as folder:
        result = cure(recipe, out=folder, data=data_of(cause, recipe), quiet=True)
    beyond = against_random(result.best, result.verdicts) if result.best is not None else None
    return result.best is not None, None if beyond is None else beyond[0]


def share(name: str, hits: Sequence[bool], aim: float, *, at_most: bool = False) -> Row:
    """A row of a share with its Wilson interval, held against what it ought to be."""
    low, high = wilson(sum(hits), len(hits))
    measured = sum(hits) / len(hits) if hits else math.nan
    reason = f"{sum(hits)} of {len(hits)}, 95% interval {low:.3f} to {high:.3f}"
    aimed = f"aimed at {'most' if at_most else 'least'}"
    return stated(name, measured, aim, aimed, "", reason=reason, interval=[low, high], n=len(hits))


def gain(above: Sequence[float]) -> Row:
    """What proved cures bring above random changes of the same budget, in the mean over networks."""
    low, high = interval(np.array(above)) if len(above) > 1 else (math.nan, math.nan)
    mean = float(np.mean(above)) if above else math.nan
    reason = f"mean of {len(above)} cures, 95% interval {low:+.3f} to {high:+.3f}"
    return stated("progress above a random change", mean, 0.0, "more than", "", reason=reason, interval=[low, high])


def rows_of(results: Sequence[Result], cures: Sequence[tuple[bool, float | None]]) -> list[Row]:
    """The table: all together, then each rule and each planted cause."""
    ill, healthy = ([r for r in results if r.label == label] for label in ("ill", "healthy"))
    right = [(rule, rule in CAUSES.get(r.cause, ())) for r in (*ill, *healthy) for rule in r.found]
    rows = [
        share("precision", [hit for _, hit in right], 0.9),
        share("recall", [r.named for r in ill], 0.9),
        share("false alarms after training", [bool(r.found) for r in healthy], 0.05, at_most=True),
        share("false alarms before training", [bool(r.before) for r in healthy], 0.05, at_most=True),
        share("cured", [proved for proved, _ in cures], 0.8),
        gain([above for _, above in cures if above is not None]),
        share("neither ill nor healthy, left out", [r.label == "neither" for r in results], 1.0, at_most=True),
    ]
    rows += [
        share(f"precision of {rule}", [hit for r, hit in right if r == rule], 0.9) for rule in sorted({r for r, _ in right})
    ]
    rows += [share(f"recall: {cause}", [r.named for r in ill if r.cause == cause], 0.9) for cause in CAUSES]
    return rows


def main() -> None:
    """`--quick` takes a minute or two; in full some twenty."""
    options = arguments(__doc__ or "")
    torch.set_num_threads(1)
    count, cures = (45, 3) if options.quick else (300, 40)
    results = [judged(seed) for seed in range(FIRST_HELD_OUT, FIRST_HELD_OUT + count)]
    ill = [r.seed for r in results if r.label == "ill"][:cures]
    publish("How often is the clinic right?", rows_of(results, [cured(seed) for seed in ill]), options.json)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """95% interval of a share."""
    if not n:
        return math.nan, math.nan
    found = binomtest(successes, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


if __name__ == "__main__":
    main()

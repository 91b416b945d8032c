"""Which likelihood does an RBM of 500 hidden units reach on binarised MNIST, and when? Goals: -88 nats in a minute, -84 in ten.

Average log-likelihood of the 10,000 test digits in nats. Every pixel is drawn as 1 with the probability of its grey value, once
for the test, anew each time in training (digits cut at one half give another scale, near -70). log Z is annealed from the base
rates with 100 chains, which tends to make the likelihood too high; the 95% interval is that of the mean weight. `backward` is
the likelihood with log Z annealed the other way, from 100 chains that ran 2,000 sweeps on from those of training, which tends
to make it too low. Time is the training alone, on this machine's threads, evaluation of each epoch included. Published are the
numbers of Salakhutdinov and Murray 2008, table 1: test digits, 500 hidden units, annealed forward.
Usage: python benchmarks/rbm_likelihood.py [--quick] [--json FILE] [--only NAME]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from comparison import publish, stated

from deepforward import Recipe, Run, fit
from deepforward.engine.evaluation import scaled_splits
from deepforward.metrics.likelihood import annealed_log_partition, reverse_annealed_log_partition

PUBLISHED = "Salakhutdinov and Murray 2008:"
#: Sweeps that chains run after training before they are taken for samples of the model.
BURN_IN = 2000


@dataclass(frozen=True)
class Variant:
    """A recipe, and the number in the literature that it is to be read beside."""

    epochs: int
    quick: int
    options: Mapping[str, Any]
    published: float | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


CD, PLAIN = {"persistent": False}, {"centre": False}
SLOW = {"learning_rate": 0.05}
VARIANTS = {
    "CD-1": Variant(25, 2, CD | PLAIN, -125.53, SLOW | {"averaging": 0.0}),
    "CD-25": Variant(25, 1, CD | PLAIN | {"steps": 25}, -86.34, SLOW | {"averaging": 0.0}),
    "PCD-1": Variant(25, 2, PLAIN),
    "PCD-1 centred": Variant(25, 3, {}),
    "PCD-1 centred, tempered": Variant(10, 1, {"temperatures": 10, "chains": 20}),
    "PCD-1 centred, ten minutes": Variant(370, 4, {}, None, {"learning_rate": 0.1}),
}


def likelihood(run: Run, which: str, temperatures: int) -> dict[str, float]:
    """Test log-likelihood by annealing forward, with its interval, and backward."""
    parts = run.parts(which)
    rng = torch.Generator().manual_seed(1)
    model, objective = parts.model, parts.objective
    with torch.inference_mode():
        visible = model.realise(model.visible(scaled_splits(parts)["test"]), "stochastic", rng)
        unnormalised = sum(float(-model.free_energy(part).sum(dtype=torch.float64)) for part in visible.split(1000)) / len(
            visible
        )
        forward = annealed_log_partition(model, rng, chains=100, temperatures=temperatures)
        chains = objective.persistent_chains or model.begin_at(visible[:100], rng)
        samples = model.advance(tuple(values[-100:].float() for values in chains), rng, BURN_IN)[0]
        backward = reverse_annealed_log_partition(model, samples, rng, temperatures=temperatures)
    return {
        "log_likelihood": unnormalised - forward.log_partition,
        "low": unnormalised - forward.high,
        "high": unnormalised - forward.low,
        "backward": unnormalised - backward.log_partition,
    }


def rows(name: str, variant: Variant, quick: bool) -> list[Any]:
    """Train one variant and judge its weights, and its averaged weights where there are any."""
    recipe = Recipe(
        model="rbm",
        data="mnist",
        epochs=variant.quick if quick else variant.epochs,
        objective_options={**variant.options, "ais_chains": 0},
        **variant.fields,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = fit(recipe, Path(folder) / "run", quiet=True)
        seconds, found = run.history[-1]["seconds"], []
        for which, words in (("newest", "raw weights"), ("best", "averaged weights")):
            if which == "best" and not run.recipe.averaging:
                continue
            numbers = likelihood(run, which, 2000 if quick else 14500)
            reason = (
                f"95% interval [{numbers['low']:.2f}, {numbers['high']:.2f}], backward {numbers['backward']:.2f}; {words} "
                f"after {recipe.epochs} epochs in {seconds:.0f} s"
            )
            value = numbers.pop("log_likelihood")
            found.append(
                stated(
                    name, value, variant.published, PUBLISHED, "nats", reason=reason, seconds=seconds, weights=words, **numbers
                )
            )
            print(f"{name}, {words}: {value:.2f} nats {reason}", flush=True)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few epochs each, fewer temperatures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    parser.add_argument("--only", choices=VARIANTS, help="one variant")
    options = parser.parse_args()
    chosen = {name: variant for name, variant in VARIANTS.items() if options.only in (None, name)}
    found = [row for name, variant in chosen.items() for row in rows(name, variant, options.quick)]
    publish("RBM of 500 hidden units, test log-likelihood of MNIST, pixels drawn by their grey values", found, options.json)


if __name__ == "__main__":
    main()

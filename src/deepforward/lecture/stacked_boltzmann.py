"""Claim: restricted Boltzmann machines stack into models of many layers, whose likelihood is bounded from below."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from deepforward.data import load
from deepforward.engine import Recipe, fit
from deepforward.lecture.claim import Check, Claim, Table, from_rows, to_rows
from deepforward.lecture.digits import BITS, independent_units
from deepforward.models.energy import DeepBeliefNetwork, DeepBoltzmannMachine
from deepforward.models.energy.enumeration import all_states
from deepforward.report.blocks import Block
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import histogram, lines

#: Budget -> random models of each kind, epochs of each stage on the digits.
BUDGETS = {"smoke": (10, 10), "full": (200, 60)}
VISIBLE, HIDDEN = 6, (4, 3)
#: Sweeps of the mean field that its bound is followed over.
SWEEPS = 8


class StackedBoltzmann(Claim):
    """Deep belief networks and deep Boltzmann machines of 6-4-3 units by enumeration, and small ones on the digits."""

    says: ClassVar[str] = (
        "Restricted Boltzmann machines, connected layer by layer, can be stacked into a multiple-layer model: an undirected "
        "machine, or a belief network, whose bound of the likelihood an added layer leaves as it is if it begins as the one "
        "below upside down."
    )
    correction: ClassVar[str] = ""

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """Bounds against exact probabilities of every v; the bound along the mean field; training on the digits."""
        models, epochs = BUDGETS[budget]
        rows: list[dict[str, Any]] = []
        for number in range(models):
            rows += _bounds(number, rng)
        progress("training on the digits")
        rows += _trained(epochs, int(torch.randint(2**31, (), generator=rng)))
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """No bound above its probability; nothing changed by an added layer; inference and training raise the bound."""
        rows, inf = to_rows(table), math.inf

        def values(kind: str, name: str | None = None) -> list[float]:
            return [row["value"] for row in rows if row["kind"] == kind and name in (None, row["name"])]

        trained = {row["name"]: row["value"] for row in rows if row["kind"] == "digits"}
        belief, machine = "belief network", "Boltzmann machine"
        identity, inference = "identity, float64, every v", "every v; Salakhutdinov and Hinton 2009"
        added = max(values("added layer"))
        return [
            Check(f"{belief}: exact log p less its bound", min(values("slack", belief)), -1e-10, inf, "nats", identity),
            Check(f"{machine}: exact log p less its bound", min(values("slack", machine)), -1e-10, inf, "nats", identity),
            Check("bound changed by an added layer", added, 0, 1e-10, "nats", "Hinton, Osindero, Teh 2006, section 4"),
            Check("mean field: least rise of a bound in a sweep", min(values("rise")), -1e-10, inf, "nats", inference),
            Check(f"{belief} on digits: bound above independent units", trained[belief], 0.5, inf, "nats", "sign"),
            Check(f"{machine} on digits: bound above independent units", trained[machine], 0.5, inf, "nats", "sign"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """How loose the bounds are, the bound along the mean field, what training gained."""
        rows = to_rows(table)
        curve = [row["value"] for row in rows if row["kind"] == "mean field" and row["model"] == 0]
        slack = [row["value"] for row in rows if row["kind"] == "slack"]
        trained = [[row["name"], row["value"]] for row in rows if row["kind"] == "digits"]
        return [
            histogram(slack, quantity="exact log p less its bound (nats)", caption="Never below zero: a bound is a bound."),
            lines(
                range(1, len(curve) + 1),
                {"bound": curve},
                x_title="sweeps of the mean field",
                y_title="bound of log p (nats)",
                caption="Inference in a deep Boltzmann machine climbs the bound.",
            ),
            Cells(["model", "gain"], trained, {"gain": "+.2f"}, "Digits: bound above independent units, nats.", half=True),
        ]

    def refutation(self) -> Table:
        """Bounds above the probability, a layer that changes them, a mean field that falls, training that loses."""
        rows = [_row("slack", name, 0, -1.0) for name in ("belief network", "Boltzmann machine")]
        rows += [_row("added layer", "belief network", 0, 1.0)]
        rows += [_row("mean field", "Boltzmann machine", 0, -float(sweep)) for sweep in range(SWEEPS)]
        rows += [_row("rise", "Boltzmann machine", 0, -1.0)]
        return from_rows(rows + [_row("digits", name, 0, -1.0) for name in ("belief network", "Boltzmann machine")])


def _row(kind: str, name: str, model: int, value: float) -> dict[str, Any]:
    return {"kind": kind, "name": name, "model": model, "value": value}


def _bounds(number: int, rng: torch.Generator) -> Iterator[dict[str, Any]]:
    """Slack of the bounds of one random model of each kind, and what an added layer does to it."""
    visible = torch.cat(list(all_states(VISIBLE, like=torch.zeros((), dtype=torch.float64))))
    with torch.no_grad():
        belief = _random(DeepBeliefNetwork((VISIBLE,), hidden=HIDDEN), rng)
        exact = belief.exact_log_probability(visible) + belief.log_partition()
        yield _row("slack", "belief network", number, float((exact - belief.exact_bound(visible)).min()))
        shallow = _random(DeepBeliefNetwork((VISIBLE,), hidden=HIDDEN[:1]), rng)
        taller = DeepBeliefNetwork((VISIBLE,), hidden=(HIDDEN[0], VISIBLE)).double()
        taller.load_state_dict(shallow.state_dict(), strict=False)
        taller.tie()
        taller.mirror(1)
        before = shallow.exact_bound(visible) - shallow.log_partition()
        after = taller.exact_bound(visible) - taller.log_partition()
        yield _row("added layer", "belief network", number, float((after - before).abs().max()))
        machine = _random(DeepBoltzmannMachine((VISIBLE,), hidden=HIDDEN), rng)
        exact, log_z = machine.exact_log_probability(visible), machine.log_partition()
        climb = [machine.bound(machine.mean_field(visible, sweeps, 0.0)[0]) - log_z for sweeps in range(1, SWEEPS + 1)]
        yield from (_row("mean field", "Boltzmann machine", number, float(bound.mean())) for bound in climb)
        rise = min(float((after - before).min()) for before, after in itertools.pairwise(climb))
        yield _row("rise", "Boltzmann machine", number, rise)
        yield _row("slack", "Boltzmann machine", number, float((exact - climb[-1]).min()))


def _random(model: Any, rng: torch.Generator) -> Any:
    """The model in float64 with parameters drawn anew, its recognition weights tied."""
    model = model.double()
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=rng, dtype=torch.float64))
    if isinstance(model, DeepBeliefNetwork):
        model.tie()
    return model


def _trained(epochs: int, seed: int) -> Iterator[dict[str, Any]]:
    """Bound of the test digits under trained stacks, less the log-likelihood of independent units, nats an example."""
    data = load("digits")
    options = {
        "model_options": {"hidden": [16, 12]},
        "epochs": epochs,
        "batch_size": 20,
        "validation": 0.0,
        "probe_budget": 0.0,
    }
    for model, name in (("deep-belief-network", "belief network"), ("deep-boltzmann-machine", "Boltzmann machine")):
        recipe = Recipe(model=model, data="digits", seed=seed, **_bits(options)).complete()
        stages = tuple({**stage, "learning_rate": 0.5, **_bits(stage)} for stage in recipe.pretraining or ())
        with tempfile.TemporaryDirectory() as folder:
            stacked = recipe.replace(pretraining=stages, learning_rate=0.1)
            run = fit(stacked, Path(folder) / "run", quiet=True, data=data, throwaway=True)
            bound = run.metrics["test/log_likelihood_bound"]
        yield _row("digits", name, 0, bound - independent_units(data))


def _bits(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with digits cut at one half."""
    return {**options, "objective_options": {**options.get("objective_options", {}), **BITS}}

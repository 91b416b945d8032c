"""Claim: energy and probability of the Boltzmann machine, and that both can be sampled and learnt."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from deepforward.lecture.claim import Check, Claim, Table, from_rows, number, numbers
from deepforward.models.energy import BoltzmannMachine, encoder_connectivity
from deepforward.models.energy.enumeration import all_states
from deepforward.report.blocks import Block
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import lines

UNITS = 8
SWEEPS = (0, 1, 2, 4, 8, 16, 32)
#: Budget -> chains of Gibbs sampling, and runs of the encoder.
#: Of 40 runs one took more than the most cycles: of 3 all must learn, of 10 one may fail.
BUDGETS = {"smoke": (2000, 10), "full": (50_000, 30)}
#: Cycles after which an encoder that has not learnt is given up, and for how many in a row it must know four codes.
MOST_CYCLES, KEPT = 1000, 25


class BoltzmannEnergy(Claim):
    """Energies and probabilities of 8 units against enumeration, their sampling and learning, and the 4-2-4 encoder.

    The table has one row a number: `quantity`, `at` (sweeps, a run, or the form of W) and `value`.
    """

    says: ClassVar[str] = (
        "A Boltzmann machine of N units x_i in {0, 1} has the energy E(x) = -b'x - sum over i < j of w_ij x_i x_j, which in "
        "matrix form is -b'x - x'Wx for a strictly upper triangular W, and the probability p(x) = exp(-E(x)) / sum over y of "
        "exp(-E(y)). Gibbs sampling draws from it, maximum likelihood recovers it, and with hidden units it finds codes by "
        "itself."
    )
    correction: ClassVar[str] = (
        "E18: connections are symmetric, and -b'x - x'Wx with symmetric W counts each pair twice; the matrix form is then "
        "-b'x - x'Wx / 2."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """8 units; 2000 chains and 10 encoders (smoke), or 50,000 chains and 30 encoders (full)."""
        chains, runs = BUDGETS[budget]
        progress("energies and probabilities")
        model = random_machine(UNITS, rng)
        rows = [*_matrix_forms(model), number("sum of probabilities", 0, model.probabilities().sum().item())]
        progress("Gibbs sampling")
        rows += _sampling(model, chains, rng)
        progress("maximum likelihood")
        rows += _recovery(model, rng)
        for run in range(runs):
            progress(f"encoder {run + 1} of {runs}")
            rows.append(number("encoder cycles", run, encoder_cycles(rng)))
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """Identities to rounding, samples to their standard error, and the encoder as often as the source."""
        ratio, error = numbers(table, "x'Wx against double sum"), numbers(table, "energy error")
        recovered, cycles = numbers(table, "recovery"), list(numbers(table, "encoder cycles").values())
        learnt = sum(c <= MOST_CYCLES for c in cycles) / len(cycles)
        wrong = numbers(table, "divergence of the printed form")
        inf, identity = math.inf, "identity, float64"
        return [
            Check("x'Wx / double sum, W symmetric", ratio["symmetric"], 2 - 1e-12, 2 + 1e-12, "", "E18: each pair twice"),
            Check("x'Wx / double sum, W upper", ratio["upper"], 1 - 1e-12, 1 + 1e-12, "", "E18: each pair once"),
            Check("printed form, W symmetric: KL", wrong["symmetric"], 0.01, inf, "nats", "E18: another distribution"),
            Check("energy against the double sum", max(error.values()), 0, 1e-12, "nats", identity),
            Check("sum of probabilities", numbers(table, "sum of probabilities")[0], 1 - 1e-12, 1 + 1e-12, "", identity),
            Check(
                "Gibbs: farthest of 36 moments from exact",
                numbers(table, "farthest moment")[SWEEPS[-1]],
                0,
                4.5,
                "standard errors",
                "normal; p = 36 x 7e-6",
            ),
            Check("maximum likelihood: KL", recovered["divergence"], -1e-12, 1e-6, "nats", "the model is identifiable"),
            Check(
                "maximum likelihood: parameters",
                recovered["parameters"],
                0,
                1e-2,
                "nats",
                "KL is quadratic in them",
            ),
            Check("4-2-4 encoder: four codes", learnt, 0.9, 1, "share of runs", "Ackley 1985: all of 250 runs"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """Gibbs sampling against sweeps, and how long each encoder took."""
        far, noise = numbers(table, "farthest moment"), 4.5
        cycles = numbers(table, "encoder cycles")
        shown = [[f"run {run + 1}", count if count <= MOST_CYCLES else "not learnt"] for run, count in cycles.items()]
        learnt = [count for count in cycles.values() if count <= MOST_CYCLES]
        middle = f"Median {statistics.median(learnt):g} cycles; Ackley et al. 110." if learnt else ""
        return [
            lines(
                list(far),
                {"sampled": list(far.values()), "allowed": [noise] * len(far)},
                x_title="sweeps of Gibbs sampling",
                y_title="farthest moment from exact, standard errors",
                log_y=True,
                caption="From independent units, chains forget their start within a few sweeps.",
            ),
            Cells(["4-2-4 encoder", "learning cycles"], shown, caption=middle),
        ]

    def refutation(self) -> Table:
        """As if W were counted once or thrice, sampling and learning went astray, and no encoder found its codes."""
        rows = [number("x'Wx against double sum", "symmetric", 1.0), number("x'Wx against double sum", "upper", 2.0)]
        rows += [number("divergence of the printed form", "symmetric", 0.0), number("energy error", "symmetric", 1.0)]
        rows += [number("sum of probabilities", 0, 0.9)]
        rows += [number("farthest moment", sweeps, 30.0) for sweeps in SWEEPS]
        rows += [number("recovery", "divergence", 0.1), number("recovery", "parameters", 1.0)]
        return from_rows([*rows, *(number("encoder cycles", run, MOST_CYCLES + 1) for run in range(3))])


def random_machine(units: int, rng: torch.Generator) -> BoltzmannMachine:
    """A machine without hidden units, weights and biases standard normal, in float64."""
    with torch.random.fork_rng(devices=[]):
        model = BoltzmannMachine((units,)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng, dtype=torch.float64))
    return model


def encoder_cycles(rng: torch.Generator, most: int = MOST_CYCLES) -> int:
    """Learning cycles until the 4-2-4 encoder has four codes and keeps them 25 cycles; `most` + 1 if that never happens.

    A cycle clamps each of the four patterns 20 times, bits turned off with probability 0.15 and on with 0.05, against 80 chains
    that go on from cycle to cycle, and moves every parameter by 0.4 in the direction of the gradient, after a decay of 2%.
    Hidden units are drawn in both phases. The noise is needed: the exact gradient mostly ends where two patterns share a code.

    Source: Ackley, Hinton, Sejnowski 1985: noisy clamping, and steps of fixed size.
    """
    with torch.random.fork_rng(devices=[]):
        model = BoltzmannMachine((8,), hidden=2, connectivity=encoder_connectivity(4, 2), weight_scale=0.0)
    patterns = torch.eye(4).repeat(1, 2)
    likely = torch.where(patterns > 0, 0.85, 0.05).repeat(20, 1)
    chains, kept = model.start(80, rng), 0
    for cycle in range(1, most + 1):
        data = model.begin_at(torch.bernoulli(likely, generator=rng), rng)
        chains = model.advance(chains, rng, steps=5)
        gap = model.energy(data).mean() - model.energy(chains).mean()
        gradients = torch.autograd.grad(gap, tuple(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.mul_(0.98).sub_(0.4 * gradient.sign())
            codes = torch.unique(model(patterns) > 0.5, dim=0)
        kept = kept + 1 if len(codes) == 4 else 0
        if kept == KEPT:
            return cycle - KEPT + 1
    return most + 1


def _matrix_forms(model: BoltzmannMachine) -> list[dict[str, Any]]:
    """Ratio of x'Wx to the double sum for both forms of W, for all states; and what follows for the probabilities."""
    states = next(all_states(UNITS, like=model.bias))
    weight, bias = model.weight.detach(), model.bias.detach()
    pairs = itertools.combinations(range(UNITS), 2)
    double = torch.stack([weight[i, j] * states[:, i] * states[:, j] for i, j in pairs]).sum(0)
    energy, right = -states @ bias - double, model.probabilities()
    rows = [number("energy error", "symmetric", (model.energy((states, states[:, :0])) - energy).abs().max().item())]
    for form, matrix in (("symmetric", weight), ("upper", weight.triu())):
        product = ((states @ matrix) * states).sum(1)
        printed = (states @ bias + product).softmax(0)
        rows.append(number("x'Wx against double sum", form, ((product @ double) / (double @ double)).item()))
        rows.append(number("divergence of the printed form", form, _divergence(right, printed)))
    return rows


def _sampling(model: BoltzmannMachine, chains: int, rng: torch.Generator) -> list[dict[str, Any]]:
    """Largest deviation of a mean of x_i or x_i x_j from its exact value after so many sweeps, in standard errors."""
    states, left = model.start(chains, rng), 0
    exact = model.probabilities() @ _moments(next(all_states(UNITS, like=model.bias)))
    rows = []
    for sweeps in SWEEPS:
        states = model.advance(states, rng, sweeps - left)
        left = sweeps
        errors = (exact * (1 - exact) / chains).sqrt()
        rows.append(number("farthest moment", sweeps, ((_moments(states[0]).mean(0) - exact) / errors).abs().max().item()))
    return rows


def _recovery(truth: BoltzmannMachine, rng: torch.Generator) -> list[dict[str, Any]]:
    """A machine trained from zero on the exact distribution of another: how far both are apart at the end."""
    states, right = next(all_states(UNITS, like=truth.bias)), truth.probabilities()
    model = random_machine(UNITS, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = model.log_partition_tensor() - right @ model.log_unnormalised(states, rng)
        value.backward()
        return value

    optimizer.step(loss)
    apart = torch.cat([(p - q).detach().flatten() for p, q in zip(model.parameters(), truth.parameters(), strict=True)])
    return [
        number("recovery", "divergence", _divergence(right, model.probabilities())),
        number("recovery", "parameters", apart.abs().max().item()),
    ]


def _divergence(p: Tensor, q: Tensor) -> float:
    """KL(p || q), nats."""
    return (p @ (p.log() - q.log())).item()


def _moments(states: Tensor) -> Tensor:
    """x_i, and x_i x_j of i < j."""
    rows, columns = torch.triu_indices(states.shape[1], states.shape[1], 1)
    return torch.cat((states, states[:, rows] * states[:, columns]), 1)

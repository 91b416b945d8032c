"""Claim: a Markov chain forgets where it began, at the rate of its second eigenvalue, unless it is periodic or falls apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from deepforward.lecture.claim import Check, Claim, Table, from_rows, number, numbers
from deepforward.report.blocks import Block
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import lines
from deepforward.shallow.markov import MarkovChain, total_variation

#: A chain whose numbers are known in closed form: pi = (0.6, 0.3, 0.1), eigenvalues 1, 0.8, 0.5.
WEATHER = MarkovChain(
    torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.0, 0.3, 0.7]], dtype=torch.float64), ["sun", "cloud", "rain"]
)
SHARES = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
#: Two states that follow each other for ever, and a game that ends in one of two ways.
IN_TURN = MarkovChain(torch.tensor([[0, 1], [1, 0]]))
GAMBLE = MarkovChain(torch.tensor([[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]]))
STEPS = 60


class ForgetfulChain(Claim):
    """Distances to the stationary distribution, of a chain that forgets and of two that do not, and walks of the first.

    The table has one row a number: `quantity`, `at` (a state, a number of steps or of a random chain) and `value`.
    """

    says: ClassVar[str] = (
        "The lecture only names the Markov chain, first in its chart of further networks (van Veen's Neural Network Zoo 2016). "
        "What is known of it: if every state is reached from every other, and not in turn, the distribution tends from any "
        "start to the one pi with pi P = pi, and its distance shrinks by the modulus of the second eigenvalue each step."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """10 random chains and 4,000 walks (smoke), or 200 and 100,000 (full)."""
        chains, walks = (10, 4_000) if budget == "smoke" else (200, 100_000)
        progress("distances")
        rows = [*_distances(), *_settled()]
        progress(f"{chains} random chains")
        rows += [number("eigenvector against iteration", i, _disagreement(2 + i % 9, rng)) for i in range(chains)]
        progress(f"{walks} walks")
        return from_rows([*rows, *_walks(walks, rng)])

    def check(self, table: Table) -> list[Check]:
        """Numbers known in closed form, identities, and walks within the errors of their number."""
        settled, sun = numbers(table, "settled"), numbers(table, "distance from sun")
        rate = math.log(sun[STEPS] / sun[STEPS // 2]) / (STEPS // 2)
        disagreement = max(numbers(table, "eigenvector against iteration").values())
        in_turn, ends = numbers(table, "distance in turn")[STEPS], numbers(table, "ends of a gamble")[0]
        walks = numbers(table, "walks")
        return [
            Check("stationary distribution", settled["error"], 0, 1e-12, "total variation", "pi = (.6, .3, .1): pi P = pi"),
            Check("second eigenvalue", settled["second"], 0.8 - 1e-12, 0.8 + 1e-12, "", "(x - 1)(x - .8)(x - .5)"),
            Check("distance after 60 steps", sun[STEPS], 4.9e-7, 5.3e-7, "total variation", "0.8^60 / 3"),
            Check("rate of forgetting", rate, math.log(0.8) - 1e-4, math.log(0.8) + 1e-4, "nats/step", "ln of the eigenvalue"),
            Check("eigenvector against iteration", disagreement, 0, 1e-10, "total variation", "identity, random chains"),
            Check("two states in turn after 60 steps", in_turn, 0.5, 0.5, "total variation", "period 2: never settles"),
            Check("stationary distributions of a gamble", ends, 2, 2, "", "two states that nothing leaves"),
            Check("ends of walks", walks["chi-square"], 0, 24, "chi-square", "2 degrees of freedom, p = 6e-6"),
            Check("chain estimated from walks", walks["estimate"], 0, 5, "standard errors", "5 distinct errors, p = 3e-6"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """The distance to the stationary distribution, from each start, and what it is."""
        series = {f"from {name}": list(numbers(table, f"distance from {name}").values()) for name in WEATHER.states}
        series["two states in turn"] = list(numbers(table, "distance in turn").values())
        return [
            lines(
                list(numbers(table, "distance from sun")),
                series,
                x_title="steps",
                y_title="total variation distance to the stationary distribution",
                log_y=True,
                caption="From every start the distance ends up falling by 0.8 a step; a periodic chain keeps its distance.",
            ),
            Cells(
                columns=["state", "stationary probability", "share of walks there"],
                rows=[[name, numbers(table, "pi")[name], numbers(table, "share of walks")[name]] for name in WEATHER.states],
                formats={"stationary probability": ".4f", "share of walks there": ".4f"},
                caption=f"Where walks are after {STEPS} steps.",
            ),
        ]

    def refutation(self) -> Table:
        """A chain that remembers its start, and a periodic one that forgets it."""
        rows = [number("distance from sun", t, 0.4) for t in (STEPS // 2, STEPS)]
        rows += [number("settled", "error", 0.1), number("settled", "second", 1.0)]
        rows += [number("distance in turn", STEPS, 1e-7), number("ends of a gamble", 0, 1)]
        rows += [number("eigenvector against iteration", 0, 0.1)]
        return from_rows([*rows, number("walks", "chi-square", 1e4), number("walks", "estimate", 50.0)])


def _distances() -> list[dict[str, Any]]:
    """Total variation distance after each step: the chain from each of its states, and two states that follow in turn."""
    found = []
    for name, chain, start in [*((f"from {s}", WEATHER, s) for s in WEATHER.states), ("in turn", IN_TURN, 0)]:
        pi = chain.stationary()
        distances = [total_variation(chain.distribution(start, t), pi).item() for t in range(STEPS + 1)]
        found += [number(f"distance {name}", t, distance) for t, distance in enumerate(distances)]
    return found


def _settled() -> list[dict[str, Any]]:
    """Where chains come to rest: the stationary distribution and what is known of it, and the number of a gamble's ends."""
    pi = WEATHER.stationary()
    rows = [number("pi", name, p) for name, p in zip(WEATHER.states, pi.tolist(), strict=True)]
    rows += [number("settled", "error", total_variation(pi, SHARES).item())]
    rows += [number("settled", "second", WEATHER.second_eigenvalue)]
    return [*rows, number("ends of a gamble", 0, len(GAMBLE.stationary_distributions()))]


def _disagreement(states: int, rng: torch.Generator) -> float:
    """Distance between the eigenvector and the limit of p P^t for a random chain."""
    weights = torch.rand(states, states, generator=rng, dtype=torch.float64)
    chain = MarkovChain(weights / weights.sum(1, keepdim=True))
    return total_variation(chain.stationary(), chain.stationary_by_iteration()).item()


def _walks(count: int, rng: torch.Generator) -> list[dict[str, Any]]:
    """Where independent walks from the rarest state end, and the chain that their transitions suggest."""
    walks = WEATHER.sample(STEPS + 1, rng, start="rain", chains=count)  # the first state takes no step
    shares = walks[:, -1].bincount(minlength=3) / count
    chi_square = count * ((shares - SHARES) ** 2 / SHARES).sum().item()
    estimate = MarkovChain.from_sequence(*walks.tolist(), states=range(3)).transition
    rows = [number("share of walks", name, share) for name, share in zip(WEATHER.states, shares.tolist(), strict=True)]
    return [*rows, number("walks", "chi-square", chi_square), number("walks", "estimate", _standard_errors(estimate, walks))]


def _standard_errors(estimate: Tensor, walks: Tensor) -> float:
    """Largest error of an estimated transition probability, in its standard errors; impossible ones must be 0 exactly."""
    true = WEATHER.transition
    if bool(estimate[true == 0].any()):
        return math.inf
    left = walks[:, :-1].flatten().bincount(minlength=3)[:, None]
    return ((estimate - true).abs() / (true * (1 - true) / left).sqrt())[true > 0].max().item()

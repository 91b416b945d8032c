"""Claim: a Hopfield network goes downhill in energy to what it has stored, and holds 0.138 random patterns a unit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from deepforward.lecture.claim import Check, Claim, Table, from_rows, number, numbers
from deepforward.models.energy.hopfield import Hopfield, overlap
from deepforward.models.energy.hopfield_capacity import (
    critical_load,
    error_free_patterns,
    recalled_overlap,
    unstable_bit_probability,
)
from deepforward.models.energy.modern_hopfield import ModernHopfield
from deepforward.report.blocks import Block
from deepforward.report.figures import lines

UNITS = 1000
LOADS = {
    "smoke": (0.05, 0.10, 0.12, 0.20),
    "full": (0.05, 0.08, 0.105, 0.12, 0.13, 0.138, 0.145, 0.15, 0.16, 0.185, 0.20),
}
STARTS = ("a damaged pattern", "a random state")


class AssociativeMemory(Claim):
    """Overlaps, unstable bits and energies of networks with Hebb's rule, and the two forms that hold more.

    The table has one row a number: `quantity`, `at` (a load in patterns a unit, or sweeps) and `value`.
    """

    says: ClassVar[str] = (
        "The lecture only names the Hopfield network, in its chart of further networks (van Veen's Neural Network Zoo, 2016). "
        "What is known of it: recall, one unit after the other, never raises the energy; Hebb's rule keeps random patterns up "
        "to 0.138 a unit with few errors and N / (2 ln N) without any, and a stored bit is unstable with probability "
        "Q(1 / sqrt(load)). The pseudo-inverse recalls 0.5 a unit, the modern form 100 a unit."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """1000 units; 4 loads, one network and up to 128 patterns recalled of each (smoke), or 11 loads, 3 networks (full)."""
        networks, probes = 1 if budget == "smoke" else 3, 128
        rows = [number("critical load", 0, critical_load())]
        for load in LOADS[budget]:
            progress(f"{load} patterns a unit")
            rows += _at_load(load, networks, probes, rng)
        progress("energies")
        for start in STARTS:
            rows += _energies(start, rng)
        progress("other forms")
        return from_rows([*rows, *_error_free(rng), *_synchronous(rng), *_forms_that_hold_more(rng)])

    def check(self, table: Table) -> list[Check]:
        """Theory of many units against 1000 of them."""
        recalled, theory = numbers(table, "overlap"), numbers(table, "overlap, theory")
        unstable, errors = numbers(table, "unstable bits"), numbers(table, "unstable bits, standard error")
        misfit = max(abs(recalled[a] - theory[a]) for a in recalled if a <= 0.12)
        # Below 0.08 less than ten unstable bits are expected, too few for a normal law.
        farthest = max(abs(unstable[a] - unstable_bit_probability(a)) / errors[a] for a in unstable if a >= 0.08)
        rises = sum(sum(numbers(table, f"rises from {start}").values()) for start in STARTS)
        whole, sync = numbers(table, "patterns without error"), numbers(table, "states that never rest")
        other = numbers(table, "other forms")
        ags = "Amit, Gutfreund, Sompolinsky 1985"
        return [
            Check("updates that raise the energy", rises, 0, 0, "", "Hopfield 1982: each changes it by -|Δs| |h|"),
            Check("critical load", numbers(table, "critical load")[0], 0.1375, 0.1385, "patterns/unit", ags),
            Check("overlap at load 0.12", recalled[0.12], 0.95, 1, "", f"{ags}: 0.993"),
            Check("overlap at load 0.20", recalled[0.20], 0, 0.6, "", f"{ags}: beyond 0.138; 0.3 to 0.45 is left"),
            Check("overlap against theory up to 0.12", misfit, 0, 0.02, "", f"{ags}; 1000 units"),
            Check("unstable bits against Q(1/√load)", farthest, 0, 4.5, "standard errors", "normal crosstalk; p < 1e-4 a load"),
            Check("patterns without error, N/(2 ln N)", whole["N / (2 ln N)"], 0.75, 1, "share", "60 networks: 0.92 ± 0.04"),
            Check("patterns without error, 0.138 N", whole["0.138 N"], 0, 0.15, "share", "60 networks: 0.06 ± 0.02"),
            Check("synchronous recall: to and fro", sync["synchronous"], 1e-3, 1, "share", "Goles et al. 1985: cycles of two"),
            Check("asynchronous recall: no rest", sync["asynchronous"], 0, 0, "share", "the energy falls, states are finite"),
            Check("pseudo-inverse at load 0.5", other["pseudo-inverse"], 0.99, 1, "overlap", "Personnaz 1985; 3% damaged"),
            Check("modern form, 100 a unit", other["modern"], 0.99, 1, "overlap", "Ramsauer et al. 2021: exponential capacity"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """Overlap and unstable bits against load, with their theory, and the energy along recall."""
        recalled, unstable = numbers(table, "overlap"), numbers(table, "unstable bits")
        errors = [2 * error for error in numbers(table, "unstable bits, standard error").values()]
        band = [[u + sign * error for u, error in zip(unstable.values(), errors, strict=True)] for sign in (-1, 1)]
        sweeps = numbers(table, f"energy from {STARTS[0]}")
        return [
            lines(
                list(recalled),
                {f"{UNITS} units": list(recalled.values()), "theory": list(numbers(table, "overlap, theory").values())},
                x_title="load, patterns a unit",
                y_title="overlap with the pattern after recall",
                caption="Recall breaks down at 0.138. Beyond, a state between the patterns keeps some overlap, whose value the "
                "theory of states near the patterns (drawn as 0) does not give.",
            ),
            lines(
                list(unstable),
                {
                    "measured": list(unstable.values()),
                    "Q(1/√load)": [unstable_bit_probability(load) for load in unstable],
                },
                bands={"measured": (band[0], band[1])},
                x_title="load, patterns a unit",
                y_title="share of stored bits that are unstable",
                log_y=True,
                caption="Band: two standard errors.",
            ),
            lines(
                list(sweeps),
                {f"from {start}": list(numbers(table, f"energy from {start}").values()) for start in STARTS},
                x_title="sweeps through all units",
                y_title="energy a unit",
                caption="No update raises the energy; from a random state it ends higher, in a mixture of patterns.",
            ),
        ]

    def refutation(self) -> Table:
        """A network that climbs, recalls at any load or at none, and whose other forms do no better."""
        rows = [number("critical load", 0, 0.5)]
        for load, value in ((0.12, 0.2), (0.20, 1.0)):
            rows += [number("overlap", load, value), number("overlap, theory", load, 1.0)]
            rows += [number("unstable bits", load, 0.2), number("unstable bits, standard error", load, 1e-4)]
        rows += [number(f"rises from {start}", 0, 3) for start in STARTS]
        rows += [number("patterns without error", "N / (2 ln N)", 0.0), number("patterns without error", "0.138 N", 1.0)]
        rows += [number("states that never rest", "synchronous", 0.0), number("states that never rest", "asynchronous", 0.5)]
        return from_rows([*rows, number("other forms", "pseudo-inverse", 0.3), number("other forms", "modern", 0.3)])


def _at_load(load: float, networks: int, probes: int, rng: torch.Generator) -> list[dict[str, Any]]:
    """Recall from stored patterns, and their unstable bits, of random networks.

    The load of the theory of many units is that of the other patterns on the other units, (P - 1) / (N - 1).
    """
    stored = 1 + round(load * (UNITS - 1))
    overlaps, shares = [], []
    for _ in range(networks):
        patterns = _signs(stored, UNITS, rng=rng)
        net = _hebb(patterns)
        shares.append(net.unstable_share(patterns).mean().item())
        overlaps.append(overlap(net.recall(patterns[:probes], rng).states, patterns[:probes]).mean().item())
    return [
        number("overlap", load, sum(overlaps) / networks),
        number("overlap, theory", load, recalled_overlap(load)),
        number("unstable bits", load, sum(shares) / networks),
        number("unstable bits, standard error", load, _share_error(load, stored * UNITS, stored) / math.sqrt(networks)),
    ]


def _share_error(load: float, bits: int, stored: int) -> float:
    """Standard error of the share of unstable bits of one network.

    Two parts: the number of unstable bits, as if they were independent, and the crosstalk's variance, which all bits share. The
    latter is the mean square overlap of P patterns, with a relative standard deviation of 2 / P. Of 60 networks the shares
    spread by 0.144, 0.109 and 0.036 of themselves at P = 105, 120, 200; this gives 0.138, 0.101 and 0.035.
    """
    share, z = unstable_bit_probability(load), 1 / math.sqrt(load)
    slope = z * math.exp(-z * z / 2) / math.sqrt(8 * math.pi)  # of the share by the logarithm of the variance
    return math.hypot(math.sqrt(share / bits), slope * 2 / stored)


def _energies(start: str, rng: torch.Generator, units: int = 300, sweeps: int = 6) -> list[dict[str, Any]]:
    """Energy a unit along recall at load 0.1, twenty times a sweep, and the number of updates that raised it."""
    patterns = _signs(units // 10, units, rng=rng)
    net, often = _hebb(patterns), units // 20
    state = _damaged(patterns[0], 0.25, rng) if start == STARTS[0] else _signs(units, rng=rng)
    energies = [net.energy(state).item()]
    for _ in range(sweeps):
        for unit in torch.randperm(units, generator=rng).tolist():
            state = net.update(state, unit)
            energies.append(net.energy(state).item())
    rises = sum(after > before + 1e-9 for before, after in itertools.pairwise(energies))
    along = [number(f"energy from {start}", i / units, energies[i] / units) for i in range(0, len(energies), often)]
    return [*along, number(f"rises from {start}", 0, rises)]


def _error_free(rng: torch.Generator) -> list[dict[str, Any]]:
    """Share of the stored patterns that are fixed points."""
    found = []
    for name, stored in (("N / (2 ln N)", int(error_free_patterns(UNITS))), ("0.138 N", round(0.138 * UNITS))):
        patterns = _signs(stored, UNITS, rng=rng)
        whole = (_hebb(patterns).unstable_share(patterns) == 0).double().mean().item()
        found.append(number("patterns without error", name, whole))
    return found


def _synchronous(rng: torch.Generator) -> list[dict[str, Any]]:
    """Share of random starts from which recall finds no rest, in both modes."""
    net, starts = _hebb(_signs(6, 40, rng=rng)), _signs(1000, 40, rng=rng)
    return [
        number("states that never rest", mode, 1 - net.recall(starts, rng, mode=mode).converged.double().mean().item())
        for mode in ("synchronous", "asynchronous")
    ]


def _forms_that_hold_more(rng: torch.Generator) -> list[dict[str, Any]]:
    """Overlap after recall from damaged patterns: the projection at load 0.5, and attention to 100 patterns a unit."""
    patterns = _signs(200, 400, rng=rng)
    projection = Hopfield(400)
    projection.store(patterns, "pseudo-inverse")
    ends = projection.recall(_damaged(patterns[:100], 0.03, rng), rng).states
    many = _signs(5000, 50, rng=rng)
    attention = ModernHopfield(50)
    attention.store(many)
    attended = attention(_damaged(many[:100], 0.05, rng)).sign()
    return [
        number("other forms", "pseudo-inverse", overlap(ends, patterns[:100]).mean().item()),
        number("other forms", "modern", overlap(attended, many[:100]).mean().item()),
    ]


def _hebb(patterns: Tensor) -> Hopfield:
    net = Hopfield(patterns.shape[1])
    net.store(patterns)
    return net


def _signs(*shape: int, rng: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(2, shape, generator=rng, dtype=torch.float64) - 1


def _damaged(states: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """The states with each bit turned with probability `share`."""
    return torch.where(torch.rand(states.shape, generator=rng) < share, -states, states)

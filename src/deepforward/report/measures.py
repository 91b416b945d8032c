"""Final metrics in words: with their unit, and with the ends of their interval beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from deepforward.report.plain import plain

#: Quantity -> unit, where it has one; shares and losses of any kind have none.
UNITS: Mapping[str, str] = {
    "log_likelihood": "nats",
    "log_likelihood_bound": "nats",
    "pseudo_log_likelihood": "nats",
    "free_energy": "nats",
    "log_partition": "nats",
    "reconstruction": "squared error a unit",
    "f_measure": "%",
    "psnr": "dB",
}


@dataclass(frozen=True)
class Measure:
    """One metric.

    Attributes:
        name: `split/quantity`, or the quantity alone.
        value: Its value.
        interval: Ends of its 95% interval, where it is an estimate; equal where it is exact.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None

    @property
    def quantity(self) -> str:
        """What follows the slash."""
        return self.name.rpartition("/")[2]

    @property
    def unit(self) -> str:
        """Its unit, or ""."""
        return UNITS.get(self.quantity, "")

    @property
    def is_likelihood(self) -> bool:
        """Whether it is a log-likelihood or a bound of one."""
        return self.quantity == "log_likelihood" or self.is_bound

    @property
    def is_bound(self) -> bool:
        """Whether it is a lower bound of a log-likelihood."""
        return self.quantity == "log_likelihood_bound"

    @property
    def is_exact(self) -> bool:
        """Whether an interval is known and has no width."""
        return self.interval is not None and self.interval[0] == self.interval[1]

    def number(self) -> str:
        """Four significant digits; accuracies in percent."""
        return plain(self.value, ".1%" if self.name.endswith("accuracy") else ".4g")

    def range(self) -> str:
        """The interval in words: `exact`, `−90.2 to −89.9`, or "" where none is known; rounded to a digit of its width."""
        if self.interval is None:
            return ""
        low, high = self.interval
        if low == high:  # a bound is one still, when it is known exactly
            return "log Z exact" if self.is_bound else "exact"
        if math.isnan(low) or math.isnan(high):  # what is kept of an end that is infinite
            return f"at most {plain(high)}" if math.isnan(low) else f"at least {plain(low)}"
        digits = min(max(-math.floor(math.log10(high - low)), 1), 6) if math.isfinite(high - low) else 2
        return f"{plain(low, f'.{digits}f')} to {plain(high, f'.{digits}f')}"

    def whole(self) -> str:
        """Value, unit, and in brackets the interval."""
        known = self.range()
        inside = known if self.is_exact or not known else f"95% interval {known}"
        said = f"{self.number()} {self.unit}".rstrip()
        return f"{said} ({inside})" if inside else said


def measures(metrics: Mapping[str, float]) -> list[Measure]:
    """Each metric with the ends of its interval (`name_low` and `name_high`), which are no metrics of their own."""
    ends = {name + end for name in metrics for end in ("_low", "_high")}
    found = []
    for name, value in metrics.items():
        if name not in ends:
            low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
            found.append(Measure(name, value, None if low is None or high is None else (low, high)))
    return found


def headline(metrics: Mapping[str, float]) -> list[Measure]:
    """The few metrics that tell how good a model is: of the test split or all, those that are numbers, the first ones first.

    A free energy says nothing by itself, as its zero is arbitrary, and a pseudo-likelihood nothing beside a likelihood.
    """
    known = {name: value for name, value in metrics.items() if math.isfinite(value) or name.endswith(("_low", "_high"))}
    found = measures({name: value for name, value in known.items() if name.startswith("test/")} or known)
    has_likelihood = any(measure.is_likelihood for measure in found)
    behind = {"free_energy", "log_partition"} | ({"pseudo_log_likelihood"} if has_likelihood else set())
    told = [measure for measure in found if measure.quantity not in behind and math.isfinite(measure.value)]
    return sorted(told, key=lambda measure: not (measure.name.endswith("accuracy") or measure.is_likelihood))


def spoken(name: str) -> str:
    """A metric's name in words: `test/accuracy` is test accuracy."""
    compounds = name.replace("log_likelihood", "log-likelihood").replace("log_partition", "log Z")
    return compounds.replace("/", " ").replace("_", " ")

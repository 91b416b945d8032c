"""How often to look, so that looking costs no more than a share of the training time."""

from __future__ import annotations

import math
from collections import deque
from statistics import median, quantiles

#: Sampled steps timed against plain ones before the interval follows from the timing.
_PAIRS = 5
#: Seconds that the dense start may cost beyond the budget.
_ALLOWANCE = 0.5
#: Share of the budget to aim at: steps further on are slowed as well (colder caches), which no timing of neighbours sees.
_AIM = 0.75


class Cadence:
    """Chooses the steps to sample.

    It starts at steps 0, 1, 2, 4, 8, 16, ... so that a short run is seen too. Once enough sampled steps were timed against
    their plain neighbours, it takes the interval at which the extra time is the budget.
    """

    def __init__(self, budget: float | None) -> None:
        """Keep the extra time below `budget`, a share of the step time; None samples every step."""
        self.budget = budget
        self._age = 0
        self._next = 0
        self._gap = 1
        self._floor = 1
        self._plain: deque[float] = deque(maxlen=9)
        self._extra: deque[float] = deque(maxlen=25)
        self._unsettled: float | None = None
        self._elapsed = self._spent = 0.0

    @property
    def due(self) -> bool:
        """Whether the coming step is to be sampled."""
        return self._age >= self._next

    @property
    def interval(self) -> int | None:
        """Steps from one sample to the next that the budget asks for; None before enough was timed."""
        if self.budget is None:
            return 1
        if len(self._extra) < _PAIRS:
            return None
        # The budget is an upper bound and the times are noisy: the upper quartile, not the median. At least every third step
        # stays plain, and has a plain one before it: without these there is nothing to compare with.
        extra = quantiles(self._extra, n=4, method="inclusive")[2]
        return max(3, math.ceil(extra / (_AIM * self.budget * max(median(self._plain), 1e-9))))

    def passed(self, seconds: float, *, sampled: bool) -> None:
        """A step has passed in this time."""
        self._elapsed += seconds
        self._time(seconds, sampled)
        if sampled:
            self._gap = max(self._wanted(), self._floor)
            self._next = self._age + self._gap
        self._age += 1

    def slow_down(self) -> None:
        """Look at most half as often from now on: the record was full and has been thinned."""
        self._next += self._gap
        self._floor = self._gap = 2 * self._gap

    def _time(self, seconds: float, sampled: bool) -> None:
        if sampled:
            self._unsettled = seconds - median(self._plain) if self._plain else None
        elif self._unsettled is not None:
            # A sampled step also slows the next one, which finds its data out of the processor's cache.
            self._extra.append(self._unsettled + seconds - median(self._plain))
            self._spent += max(self._extra[-1], 0.0)
            self._unsettled = None
        else:
            self._plain.append(seconds)

    def _wanted(self) -> int:
        interval, doubling = self.interval, max(1, self._age)
        if self.budget is None or interval is None:
            return 1 if self.budget is None else doubling
        affordable = self._spent <= _ALLOWANCE + self.budget * self._elapsed
        return min(doubling, interval) if affordable else interval

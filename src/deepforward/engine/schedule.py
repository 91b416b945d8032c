"""Learning rate as a pure function of the step, so that a schedule has no state to save."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deepforward.errors import InvalidOption

#: Options by schedule, with their defaults.
OPTIONS: Mapping[str, Mapping[str, float]] = {
    "constant": {},
    "cosine": {"warmup": 0.0, "final": 0.0},
    "one-cycle": {"warmup": 0.3, "start": 0.04, "final": 0.0},
    "linear": {"warmup": 0.0, "final": 0.0},
    "step": {"every": 0.3333, "factor": 0.1},
}


def rate(schedule: str, options: Mapping[str, Any], peak: float, step: int, steps: int) -> float:
    """Learning rate at `step` (from 0) of `steps`.

    constant: peak. linear: linear warm-up over the share `warmup`, then a line from peak to `final` x peak. cosine: the same,
    half a cosine for the line. one-cycle: that, with a warm-up that starts at `start` x peak. step: peak x `factor`^k
    after k x `every` x steps.

    Raises:
        InvalidOption: Unknown option, or a value that is not a number from 0 to 1.

    Source: Loshchilov and Hutter 2017 (cosine); Smith and Topin 2018 (one-cycle).
    """
    known = OPTIONS[schedule]
    for name, value in options.items():
        if name not in known:
            raise InvalidOption(f"schedule '{schedule}' has no option '{name}'; it has {', '.join(known) or 'none'}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise InvalidOption(f"schedule option {name} is {value!r}; expected a number from 0 to 1")
        if name == "every" and value == 0:
            raise InvalidOption("schedule option every is 0; expected a share of the run above 0, for example 0.33")
    chosen = {**known, **options}
    if schedule == "constant":
        return peak
    if schedule == "step":
        return peak * chosen["factor"] ** int(step / max(1.0, chosen["every"] * steps))
    warmup = chosen["warmup"] * steps
    if step < warmup:
        start = chosen.get("start", 0.0)
        return peak * (start + (1 - start) * (step + 1) / (warmup + 1))
    position = (step - warmup) / max(1.0, steps - warmup)
    if schedule == "linear":
        return peak * (1 - (1 - chosen["final"]) * position)
    return peak * (chosen["final"] + (1 - chosen["final"]) * 0.5 * (1 + math.cos(math.pi * position)))

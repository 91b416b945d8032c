"""The cadence on simulated clocks: the budget holds, short runs are seen, and nothing grows."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepforward.instruments.cadence import Cadence


def simulate(cadence: Cadence, steps: int, step: float, extra: float, after: float = 0.0, noise: float = 0.0) -> list[int]:
    """Steps that take `step` seconds, `extra` more when sampled and `after` more when they follow a sampled one."""
    clock, sampled, late = random.Random(0), [], False
    for number in range(steps):
        due = cadence.due
        seconds = step * clock.lognormvariate(0, noise) + (extra if due else 0) + (after if late else 0)
        cadence.passed(seconds, sampled=due)
        late = due
        if due:
            sampled.append(number)
    return sampled


@settings(deadline=None, max_examples=25)
@given(
    step=st.floats(1e-4, 1.0), share=st.floats(0.01, 3.0), after=st.floats(0.0, 0.5), budget=st.sampled_from([0.005, 0.02, 0.1])
)
def test_the_extra_time_stays_below_the_budget(step: float, share: float, after: float, budget: float) -> None:
    steps = 4000
    samples = simulate(Cadence(budget), steps, step, share * step, after * step, noise=0.02)
    late = [number for number in samples if number >= 1000]
    assert len(late) * (share + after) <= budget * (steps - 1000) + 2 * (share + after)
    assert len(samples) >= 10


def test_a_budget_is_used_not_only_kept() -> None:
    late = [number for number in simulate(Cadence(0.02), 4000, 1e-3, 0.2e-3) if number >= 1000]
    assert 200 <= len(late) <= 225  # 0.2 / (0.75 * 0.02): every 14th step


def test_a_short_run_is_seen() -> None:
    assert simulate(Cadence(0.02), 30, 1e-3, 1e-3) == [0, 1, 2, 4, 8, 16]


def test_the_dense_start_has_an_absolute_allowance() -> None:
    """The same shares in other units: samples of 10 s end the dense start once they have been timed, those of 1 ms do not."""
    assert simulate(Cadence(0.02), 600, 1.0, 10.0) == [0, 1, 2, 4, 8, 16, 32, 64, 128]
    assert simulate(Cadence(0.02), 600, 1e-4, 1e-3) == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512]


def test_without_a_budget_every_step_is_sampled() -> None:
    assert simulate(Cadence(None), 50, 1e-3, 1.0) == list(range(50))


def test_slowing_down_doubles_the_gap_for_good() -> None:
    cadence = Cadence(None)
    simulate(cadence, 10, 1e-3, 0.0)
    cadence.slow_down()
    assert simulate(cadence, 10, 1e-3, 0.0) == [1, 3, 5, 7, 9]  # step 9 was sampled, so 11, 13, ...


def test_samples_that_cost_nothing_leave_plain_steps_to_compare_with() -> None:
    samples = simulate(Cadence(0.02), 300, 1e-3, 0.0)
    assert all(later - earlier >= 3 for earlier, later in pairwise(samples[3:]))


@pytest.mark.parametrize("jump", [10.0, 0.1])
def test_the_cadence_follows_when_the_cost_changes(jump: float) -> None:
    cadence = Cadence(0.02)
    simulate(cadence, 2000, 1e-3, 1e-4)
    assert cadence.interval == pytest.approx(0.1 / 0.015, abs=1)
    simulate(cadence, 6000, 1e-3, jump * 1e-4)
    assert cadence.interval == pytest.approx(max(3, 0.1 * jump / 0.015), abs=1)

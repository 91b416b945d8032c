"""Claims -> measurements -> outcomes, a page of figures, and records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from deepforward.catalogue import Card, card, cards
from deepforward.errors import InvalidOption
from deepforward.lecture.measurement import Key, Measurement, measure, recall, remember
from deepforward.lecture.outcome import Outcome
from deepforward.lecture.page import page
from deepforward.report.page import write

BUDGETS = ("smoke", "full")


def run_claims(
    names: Sequence[str] = (),
    budget: str = "smoke",
    out: str | Path | None = None,
    *,
    seed: int = 0,
    jobs: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Measure claims, or recall what was measured, and check them.

    Args:
        names: Names of claims; all if empty.
        budget: "smoke" (seconds) or "full" (what the published pattern needs).
        out: Folder for the page `lecture.html` and for the measurements, which are kept as each one ends, so that an
            interrupted run continues where it stopped. The page shows all claims measured there under this budget and seed.
            None keeps nothing.
        seed: Seed of each claim's random draws.
        jobs: Claims to measure at the same time, each in a process of its own if there are more than one.
        progress: Told in a few words what is being done.

    Returns:
        One outcome a claim, in the order of `names`; a name given twice counts once.

    Raises:
        UnknownName: No such claim.
        InvalidOption: No such budget, or fewer jobs than one.
        WriteFailed: `out` cannot be written.
        DeepforwardError: Whatever keeps an experiment from running, such as missing data.
    """
    if budget not in BUDGETS:
        raise InvalidOption(f"got budget '{budget}'; expected {' or '.join(BUDGETS)}; choose one of them")
    if jobs < 1:
        raise InvalidOption(f"got jobs = {jobs}; expected 1 or more; give the number of processes")
    chosen = [card("claims", name) for name in dict.fromkeys(names)] or cards("claims")
    keys = {each.name: Key.of(each.name, budget, seed) for each in cards("claims")}
    tables = None if out is None else Path(out) / "tables"
    found = {name: known for name, key in keys.items() if tables and (known := recall(tables, key))}
    for key, measurement in _measure_all([keys[each.name] for each in chosen if each.name not in found], jobs, progress):
        found[key.claim] = measurement
        if tables:
            remember(tables, key, measurement)
    if out is not None:
        measured = [_judge(each, found[each.name]) for each in cards("claims") if each.name in found]
        write(page(measured, budget, seed), Path(out) / "lecture.html")
    return [_judge(each, found[each.name]) for each in chosen]


def _judge(claim_card: Card, measurement: Measurement) -> Outcome:
    claim = claim_card.load()()
    return Outcome(claim_card, claim, measurement.table, tuple(claim.check(measurement.table)), measurement.seconds)


def _measure_all(keys: list[Key], jobs: int, progress: Callable[[str], None]) -> Iterator[tuple[Key, Measurement]]:
    """Measurements as they end; with several jobs only beginning and end are told."""
    if min(jobs, len(keys)) < 2:
        for key in keys:
            yield key, measure(key, partial(_tell, progress, key.claim))
        return
    with ProcessPoolExecutor(min(jobs, len(keys)), mp_context=get_context("spawn")) as pool:
        progress(f"measuring {', '.join(key.claim for key in keys)}")
        pending = {pool.submit(measure, key, _silent): key for key in keys}
        try:
            for done in as_completed(pending):
                key, measurement = pending[done], done.result()
                _tell(progress, key.claim, f"measured in {measurement.seconds:.1f} s")
                yield key, measurement
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _tell(progress: Callable[[str], None], claim: str, what: str) -> None:
    progress(f"{claim}: {what}")


def _silent(what: str) -> None:
    pass

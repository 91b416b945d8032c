"""`deepforward lecture`."""

from __future__ import annotations

import json
from pathlib import Path

from deepforward import catalogue
from deepforward.lecture.measurement import Key, Measurement, remember

CLAIM = "composed-logistic-map"


def test_a_claim_is_measured_once_and_written_as_page_and_json(deepforward) -> None:
    first = deepforward("lecture", CLAIM, "--out", "page", "--json", "outcomes.json")
    assert first.code == 0
    assert CLAIM in first.err
    assert first.out.splitlines()[-1] == "page/lecture.html"
    assert Path("page/lecture.html").is_file()
    (outcome,) = json.loads(Path("outcomes.json").read_text())
    assert list(outcome) == ["claim", "items", "references", "errata", "status", "checks", "seconds"]
    assert set(outcome["checks"][0]) == {"name", "value", "low", "high", "unit", "basis"}
    again = deepforward("lecture", CLAIM, "--out", "page")
    assert deepforward("lecture", CLAIM, "--out", "elsewhere", "--quiet").err == ""
    assert (again.err, again.out) == ("", first.out)


def test_a_claim_that_fails_is_said_by_the_exit_code(deepforward) -> None:
    refuted = catalogue.load("claims", CLAIM)().refutation()
    remember(Path("page/tables"), Key.of(CLAIM, "smoke", 0), Measurement(refuted, 1.0))
    outcome = deepforward("lecture", CLAIM, "--out", "page")
    assert outcome.code == 1
    assert "fails" in outcome.out

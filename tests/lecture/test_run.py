import json

import pytest

from deepforward import catalogue
from deepforward.errors import InvalidOption, UnknownName, WriteFailed
from deepforward.lecture import run_claims
from deepforward.lecture.logistic_map import ComposedLogisticMap
from deepforward.lecture.measurement import Key, Measurement, measure, recall, remember
from deepforward.lecture.outcome import Outcome
from deepforward.lecture.page import page
from deepforward.report import render

CLAIM = "composed-logistic-map"


def outcome_of(table, correction=None, monkeypatch=None):
    claim = ComposedLogisticMap()
    if correction is not None:
        monkeypatch.setattr(ComposedLogisticMap, "correction", correction)
    return Outcome(catalogue.card("claims", CLAIM), claim, table, tuple(claim.check(table)), 1.5)


@pytest.fixture(scope="module")
def measured():
    return measure(Key.of(CLAIM, "smoke", 0), lambda _: None)


@pytest.fixture
def never_measure(monkeypatch):
    def refuse(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(ComposedLogisticMap, "measure", refuse)


def test_status_tells_a_correction_from_a_plain_success_and_a_failure(measured, monkeypatch):
    assert outcome_of(measured.table).status == "corrected"
    assert outcome_of(measured.table, "", monkeypatch).status == "holds"
    assert outcome_of(ComposedLogisticMap().refutation()).status == "fails"


def test_a_record_is_strict_json_with_open_bounds_as_null(measured):
    record = run_claims(["recurrent-gradient"])[0].record()
    assert list(record) == ["claim", "items", "references", "errata", "status", "checks", "seconds"]
    assert all(list(check) == ["name", "value", "low", "high", "unit", "basis"] for check in record["checks"])
    assert None in {check["high"] for check in record["checks"]}
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert outcome_of(measured.table).record()["errata"] == ["E25", "E26"]


def test_a_second_run_recalls_what_the_first_measured(tmp_path, monkeypatch):
    told = []
    first = run_claims([CLAIM], out=tmp_path, progress=told.append)
    assert told
    assert all(line.startswith(f"{CLAIM}: ") for line in told)
    monkeypatch.setattr(ComposedLogisticMap, "measure", None)
    second = run_claims([CLAIM], out=tmp_path)
    assert [o.record() for o in first] == [o.record() for o in second]
    assert (tmp_path / "lecture.html").stat().st_size > 1000


def test_the_page_keeps_what_was_measured_before_under_the_same_budget_and_seed(tmp_path):
    def titles() -> list[str]:
        html = (tmp_path / "lecture.html").read_text(encoding="utf-8")
        return [name for name in names if catalogue.card("claims", name).summary[1:] in html]

    names = [card.name for card in catalogue.cards("claims") if card.name in {CLAIM, "recurrent-gradient"}]
    assert [outcome.card.name for outcome in run_claims([CLAIM], out=tmp_path)] == [CLAIM]
    assert titles() == [CLAIM]
    assert [outcome.card.name for outcome in run_claims(["recurrent-gradient"], out=tmp_path)] == ["recurrent-gradient"]
    assert titles() == names
    run_claims([CLAIM], out=tmp_path, seed=1)
    assert titles() == [CLAIM]


@pytest.mark.parametrize("change", ["claim", "budget", "seed", "version", "source"])
def test_nothing_is_recalled_under_another_key(tmp_path, measured, change):
    key = Key.of(CLAIM, "smoke", 0)
    remember(tmp_path, key, measured)
    assert recall(tmp_path, key) == measured
    entry = tmp_path / key.file_name
    stored = json.loads(entry.read_text())
    stored["key"][change] = "another"
    entry.write_text(json.dumps(stored))
    assert recall(tmp_path, key) is None


def test_the_key_knows_claim_budget_and_seed():
    keys = [
        Key.of(CLAIM, "smoke", 0),
        Key.of(CLAIM, "full", 0),
        Key.of(CLAIM, "smoke", 1),
        Key.of("recurrent-gradient", "smoke", 0),
    ]
    assert len({key.file_name for key in keys}) == 4
    assert keys[0].source != keys[3].source


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"key": 1}', b"\xff\xfe"])
def test_a_damaged_memory_is_no_memory(tmp_path, damage):
    key = Key.of(CLAIM, "smoke", 0)
    (tmp_path / key.file_name).write_bytes(damage)
    assert recall(tmp_path, key) is None


def test_what_was_measured_before_an_interruption_is_kept(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("deepforward.lecture.recurrent_gradient.RecurrentGradient.measure", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_claims([CLAIM, "recurrent-gradient"], out=tmp_path)
    monkeypatch.setattr(ComposedLogisticMap, "measure", None)
    assert [o.card.name for o in run_claims([CLAIM, "recurrent-gradient"], out=tmp_path)] == [CLAIM, "recurrent-gradient"]


def test_several_jobs_give_the_same_tables_in_the_order_asked_for():
    names, told = ["recurrent-gradient", CLAIM], []
    apart, together = run_claims(names), run_claims(names, jobs=2, progress=told.append)
    assert [o.card.name for o in together] == names
    assert [o.table for o in together] == [o.table for o in apart]
    assert len(told) == 3


def test_the_page_says_first_what_fails(measured):
    good, bad = outcome_of(measured.table), outcome_of(ComposedLogisticMap().refutation())
    verdict, *rest = page([good, bad], "smoke", 0).blocks
    assert verdict.outcome == "fails"
    assert verdict.tone == "bad"
    assert CLAIM in verdict.sentence
    assert rest
    assert page([good], "smoke", 0).blocks[0].tone == "good"
    html = render(page([good, bad], "smoke", 0))
    assert "E25" in html
    assert "Singer 1978" in html


def test_bad_requests_are_refused_before_anything_is_measured(tmp_path, never_measure):
    with pytest.raises(UnknownName, match=f"did you mean {CLAIM}"):
        run_claims(["composed-logistic-mat"])
    with pytest.raises(InvalidOption, match="smoke or full"):
        run_claims([CLAIM], "huge")
    with pytest.raises(InvalidOption, match="got jobs = 0"):
        run_claims([CLAIM], jobs=0)


def test_a_folder_that_cannot_be_written_is_one_typed_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteFailed):
        run_claims([CLAIM], out=tmp_path / "file")


def test_a_measurement_keeps_its_time(measured):
    assert measured == Measurement(measured.table, measured.seconds)
    assert measured.seconds > 0

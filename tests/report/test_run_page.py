import dataclasses

import numpy as np
import pytest
from vanishing_run import Readings, history, readings

from deepforward.report import Advice, Chart, Facts, Heading, Images, RunRecord, Table, Text, Verdict, render, run_page


def headings(record: RunRecord) -> list[str]:
    return [block.text for block in run_page(record).blocks if isinstance(block, Heading)]


def test_verdict_and_advice_come_first_and_the_recipe_last(vanishing):
    blocks = run_page(vanishing).blocks
    assert [type(block) for block in blocks[:3]] == [Verdict, Advice, Advice]
    assert headings(vanishing) == [
        "Trials of cures",
        "Training",
        "Inside the network",
        "Errors",
        "First-layer filters",
        "Data",
        "Recipe and versions",
    ]


def test_a_cure_is_the_verdict(vanishing):
    verdict = run_page(vanishing).blocks[0]
    assert (verdict.outcome, verdict.tone) == ("cured", "good")
    assert "With residual connections, test accuracy goes from 10.0% to 95.3%" in verdict.sentence
    assert "5 seeds" in verdict.sentence


def test_without_a_proved_cure_the_gravest_finding_is_the_verdict(vanishing):
    failed = [{**verdict, "outcome": "no effect"} for verdict in vanishing.verdicts]
    verdict = run_page(dataclasses.replace(vanishing, verdicts=failed)).blocks[0]
    assert (verdict.outcome, verdict.tone) == ("vanishing", "bad")
    assert verdict.sentence == vanishing.findings[0]["cause"] + " No cure was proved."
    untried = run_page(dataclasses.replace(vanishing, verdicts=())).blocks[0]
    assert untried.sentence == vanishing.findings[0]["cause"]


@pytest.mark.parametrize(
    ("status", "outcome", "tone"),
    [("finished", "no illness found", "good"), ("stopped early", "no illness found", "good"), ("diverged", "diverged", "bad")],
)
def test_without_findings_the_status_decides(status, outcome, tone):
    verdict = run_page(RunRecord(recipe={}, status=status)).blocks[0]
    assert (verdict.outcome, verdict.tone) == (outcome, tone)


def test_an_empty_record_is_still_a_page():
    page = run_page(RunRecord(recipe={}))
    assert [type(block) for block in page.blocks] == [Verdict, Heading, Facts]
    assert "<h1>" in render(page)


def test_each_part_can_be_missing(vanishing):
    empty, small = RunRecord(recipe={}), dataclasses.replace(vanishing, readings=readings(3, 2))
    for field in dataclasses.fields(RunRecord):
        if field.name != "mistake_captions":  # belongs to mistakes
            render(run_page(dataclasses.replace(small, **{field.name: getattr(empty, field.name)})))


def test_pictures_without_content_are_left_out(vanishing):
    none = np.zeros((0, 1, 8, 8))
    record = dataclasses.replace(vanishing, mistakes=none, mistake_captions=(), filters=none, first_images=none, confusion=None)
    assert not {"Errors", "First-layer filters"} & set(headings(record))
    assert not [block for block in run_page(record).blocks if isinstance(block, Images)]


def test_readings_without_samples_are_left_out(vanishing):
    assert "Inside the network" not in headings(dataclasses.replace(vanishing, readings=readings(3, 0)))


def test_numbers_that_are_not_finite_do_not_stop_the_page(vanishing):
    seen = readings(4, 3)
    seen.values["gradient_rms"][1:] = np.nan
    seen.values["activation_rms"][2, 3] = np.inf
    lost = [{**history(1, 2.0, 2.0, 0.1)[0], "train/loss": None, "validation/loss": float("nan")}]
    record = dataclasses.replace(
        vanishing,
        readings=seen,
        history=lost,
        metrics={"test/loss": float("nan"), "test/accuracy": float("inf")},
        status="diverged",
    )
    html = render(run_page(record))
    assert "not finite from epoch 1 on" in html
    assert "∞" in html


def test_verdicts_may_hold_means_or_numbers_by_seed(vanishing):
    means = [{"prescription": "x", "outcome": "cured", "before": 0.1, "after": 0.9, "seeds": [0, 1, 2]}]
    page = run_page(dataclasses.replace(vanishing, verdicts=means))
    assert "from 10.0% to 90.0%: proved by paired runs on 3 seeds" in page.blocks[0].sentence
    broken = [{"prescription": "x", "outcome": "inconclusive", "before": [0.1, 0.2], "after": [float("nan")] * 2, "seeds": []}]
    assert "No cure was proved" in run_page(dataclasses.replace(vanishing, verdicts=broken)).blocks[0].sentence


def test_gradient_map_is_relative_to_the_last_layer_at_each_step():
    seen = Readings(
        layers=("a#0", "b#0", "c#0"),
        kinds=("Linear", "ReLU", "Linear"),
        steps=(0, 10),
        values={"gradient_rms": np.array([[1e-5, 7.0, 1e-2], [3e3, 7.0, 1.0]])},
    )
    chart = next(block for block in run_page(RunRecord(recipe={}, readings=seen)).blocks if isinstance(block, Chart))
    assert [(row["at"], row["v"]) for row in chart.spec["data"]["values"]] == [
        ("a, step 0", "0.001"),
        ("c, step 0", "1"),
        ("a, step 10", "3e+03"),
        ("c, step 10", "1"),
    ]


def test_layer_table_holds_medians_and_dashes():
    seen = Readings(
        layers=("a#0", "a#1"),
        kinds=("Linear", "ReLU"),
        steps=(0, 1, 2),
        values={
            "update_ratio": np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]]),
            "stranger": np.full((3, 2), np.inf),
        },
    )
    table = next(block for block in run_page(RunRecord(recipe={}, readings=seen)).blocks if isinstance(block, Table))
    assert list(table.columns) == ["layer", "kind", "update / weight", "stranger"]
    assert table.rows[0] == ["a#0", "Linear", 2.0, np.inf]
    assert np.isnan(table.rows[1][2])


def test_flawless_classifier_has_no_confusions():
    blocks = run_page(RunRecord(recipe={}, confusion=np.diag([3, 4]), classes=("кот", "собака"))).blocks
    assert Text("No test example was classified wrongly.") in blocks


def test_class_names_of_any_script_stand_in_the_page():
    html = render(run_page(RunRecord(recipe={}, confusion=np.array([[3, 1], [0, 4]]), classes=("кот", "犬 </script>"))))
    assert "кот" in html
    assert "犬 \\u003c/script>" in html
    assert "犬 </script>" not in html


def test_thousand_layers_stay_under_three_megabytes(vanishing):
    rng = np.random.default_rng(0)
    record = dataclasses.replace(
        vanishing,
        readings=readings(1000, 256),
        history=history(2000, 2.3, 0.1, 0.9),
        confusion=rng.integers(0, 50, (200, 200)),
        classes=[f"class number {i}" for i in range(200)],
        mistakes=rng.integers(0, 256, (24, 3, 224, 224), dtype=np.uint8),
        filters=rng.normal(size=(96, 3, 11, 11)),
        first_images=rng.integers(0, 256, (64, 3, 224, 224), dtype=np.uint8),
    )
    assert len(render(run_page(record)).encode()) < 3_000_000

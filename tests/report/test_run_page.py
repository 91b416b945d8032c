import dataclasses

import numpy as np
import pytest
from vanishing_run import Readings, history, readings

from deepforward.report import Advice, Chart, Facts, Heading, Images, RunRecord, Table, Text, Verdict, render, run_page
from deepforward.report.plain import DASH, plain


def headings(record: RunRecord) -> list[str]:
    return [block.text for block in run_page(record).blocks if isinstance(block, Heading)]


@pytest.fixture
def cured(vanishing) -> RunRecord:
    return dataclasses.replace(vanishing, findings=(), metrics={"test/loss": 0.16, "test/accuracy": 0.953}, untreated=vanishing)


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


PROOF = (
    "With residual connections, training removes 95.3% of the loss of pure guessing instead of 10.0%, "
    "proved by paired runs on 5 seeds."
)


def test_the_cured_run_says_what_cured_it_and_of_what(cured):
    verdict, before, *_ = run_page(cured).blocks
    assert (verdict.outcome, verdict.tone, verdict.sentence) == ("cured", "good", PROOF)
    assert verdict.numbers == {
        "test accuracy before": "10.2%",
        "test accuracy": "95.3%",
        "test loss before": "2.303",
        "test loss": "0.16",
    }
    assert before.title == "Before the cure: vanishing, from body.92 on"
    assert before.actions == ()


def test_the_cured_run_shows_curves_and_gradients_of_both(cured):
    charts = [block for block in run_page(cured).blocks if isinstance(block, Chart)]
    curves = next(chart for chart in charts if chart.alt.startswith("loss"))
    assert {row["run"] for row in curves.spec["data"]["values"]} == {"this run", "before the cure", "residual connections"}
    assert [chart.caption.partition(".")[0] for chart in charts if "relative gradient" in chart.alt] == [
        "Before the cure",
        "After the cure",
    ]


def test_the_sick_run_names_its_gravest_illness_and_the_proof(vanishing):
    verdict = run_page(vanishing).blocks[0]
    assert (verdict.outcome, verdict.tone) == ("vanishing, cure proved", "bad")
    assert verdict.sentence == f"{vanishing.findings[0]['cause']} {PROOF}"


def test_without_a_proved_cure_the_gravest_finding_is_the_verdict(vanishing):
    failed = [{**verdict, "outcome": "no effect"} for verdict in vanishing.verdicts]
    verdict = run_page(dataclasses.replace(vanishing, verdicts=failed)).blocks[0]
    assert (verdict.outcome, verdict.tone) == ("vanishing", "bad")
    assert verdict.sentence == vanishing.findings[0]["cause"] + " No cure was proved."
    untried = run_page(dataclasses.replace(vanishing, verdicts=())).blocks[0]
    assert untried.sentence == vanishing.findings[0]["cause"]


def test_the_proof_says_how_long_its_runs_were(cured):
    short = [{**verdict, "epochs": 4} for verdict in cured.verdicts]
    assert (
        "proved by paired runs of 4 epochs on 5 seeds."
        in run_page(dataclasses.replace(cured, verdicts=short)).blocks[0].sentence
    )


def test_what_the_verdict_says_is_not_said_again(vanishing):
    page = render(run_page(vanishing))
    assert all(page.count(finding["cause"]) == 1 for finding in vanishing.findings)


def test_a_run_that_diverged_names_the_step_and_the_last_finite_loss(vanishing):
    lost = [*history(2, 2.0, 1.5, 0.1), {"epoch": 3, "step": 97, "train/loss": None}]
    record = dataclasses.replace(vanishing, status="diverged", history=lost, metrics={"train/loss": float("nan")})
    page = run_page(record)
    assert page.blocks[0].numbers == {"diverged at step": "97", "last finite train loss": plain(lost[1]["train/loss"])}
    assert not [block for block in page.blocks if isinstance(block, Facts) and block.caption == "Final metrics"]
    at_once = run_page(dataclasses.replace(record, history=lost[2:])).blocks[0]
    assert at_once.numbers == {"diverged at step": "97"}


def test_of_several_cures_the_surest_is_named(cured):
    def trial(name: str, after: float, interval: list[float]) -> dict:
        return {"prescription": name, "outcome": "cured", "before": [0.0], "after": [after], "seeds": [0], "interval": interval}

    lucky, sure = trial("lucky", 0.9, [0.2, 1.0]), trial("sure", 0.8, [0.7, 0.9])
    assert run_page(dataclasses.replace(cured, verdicts=[lucky, sure])).blocks[0].sentence.startswith("With sure,")


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


#: Part of a record -> number of blocks that show it and nothing else; other parts change blocks that stay.
BLOCKS = {
    "command": 1,
    "versions": 1,
    "metrics": 1,
    "findings": 2,
    "verdicts": 3,
    "readings": 6,
    "confusion": 2,
    "mistakes": 1,
    "filters": 2,
    "first_images": 1,
    "data": 1,
}


def test_each_part_can_be_missing(vanishing):
    empty, small = RunRecord(recipe={}), dataclasses.replace(vanishing, readings=readings(3, 2))
    whole = len(run_page(small).blocks)
    for field in dataclasses.fields(RunRecord):
        if field.name != "mistake_captions":  # belongs to mistakes
            page = run_page(dataclasses.replace(small, **{field.name: getattr(empty, field.name)}))
            assert whole - len(page.blocks) == BLOCKS.get(field.name, 0), field.name
            assert render(page).rstrip().endswith("</html>"), field.name


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
    assert "∞" not in html


def test_verdicts_may_hold_means_or_numbers_by_seed(cured):
    means = [{"prescription": "x", "outcome": "cured", "before": 0.1, "after": 0.9, "seeds": [0, 1, 2]}]
    page = run_page(dataclasses.replace(cured, verdicts=means))
    assert (
        "removes 90.0% of the loss of pure guessing instead of 10.0%, proved by paired runs on 3 seeds"
        in page.blocks[0].sentence
    )
    broken = [{"prescription": "x", "outcome": "inconclusive", "before": [0.1, 0.2], "after": [float("nan")] * 2, "seeds": []}]
    assert render(run_page(dataclasses.replace(cured, verdicts=broken)))


def test_table_of_trials_shows_intervals_where_known(vanishing):
    known = [{**verdict, "interval": [0.84, 0.87], "epochs": 3} for verdict in vanishing.verdicts]
    tables = [
        next(block for block in run_page(dataclasses.replace(vanishing, verdicts=verdicts)).blocks if isinstance(block, Table))
        for verdicts in (known, vanishing.verdicts)
    ]
    assert [table.rows[0][4:] for table in tables] == [["+84.0% to +87.0%", 5, 3], [DASH, 5, None]]


def test_gradient_map_is_relative_to_the_last_hidden_layer_at_each_step():
    seen = Readings(
        layers=("a#0", "b#0", "c#0", "d#0"),
        kinds=("Linear", "ReLU", "Linear", "Linear"),
        steps=(0, 10),
        values={"gradient_rms": np.array([[1e-5, 7.0, 1e-2, 9.0], [3e3, 7.0, 1.0, 9.0]])},
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
    record = dataclasses.replace(record, untreated=record)
    assert len(render(run_page(record)).encode()) < 3_000_000

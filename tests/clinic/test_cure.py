import inspect
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from deepforward.clinic import cure
from deepforward.clinic.comparison import COMPARED, CONTROL, RANDOM, against_random, is_cure
from deepforward.data import load
from deepforward.engine import Recipe
from deepforward.errors import InvalidOption, RunMismatch


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def deep(**changes):
    base = Recipe(model="perceptron", model_options={"depth": 10, "width": 32}, epochs=4, batch_size=64, threads=1)
    return base.replace(**changes)


@pytest.fixture(scope="module")
def cured(tmp_path_factory, digits):
    out = tmp_path_factory.mktemp("cure") / "deep"
    return cure(deep(), out=out, data=digits, quiet=True), out


def test_a_deep_network_is_cured_and_the_full_run_shows_it(cured):
    result, out = cured
    assert result.diagnosis.rules == ("vanishing",)
    assert result.best is not None
    assert result.baseline.metrics["test/accuracy"] < 0.3
    assert result.run.metrics["test/accuracy"] > 0.85
    assert {path.name for path in out.iterdir()} == {"baseline", "cured"}
    assert "vanishing" not in result.after.rules
    assert f"cured by {result.best.prescription}" in str(result)


def test_the_control_is_among_the_verdicts_and_proves_nothing(cured):
    result, _ = cured
    control = result.verdicts[-1]
    assert control.prescription.startswith("control")
    assert control.outcome == "no effect"
    assert result.best.interval[0] > control.interval[1]


def test_what_everybody_tries_and_a_random_change_stand_beside_the_cure(cured):
    result, _ = cured
    names = [verdict.prescription for verdict in result.verdicts]
    assert set(COMPARED) <= set(names)
    assert names[-2:] == [RANDOM, CONTROL]
    assert len({(verdict.seeds, verdict.epochs, verdict.before) for verdict in result.verdicts[:-2]}) == 1
    best, random = result.best, result.verdicts[-2]
    mean, low, high = against_random(best, result.verdicts)
    assert mean == pytest.approx(np.mean(best.after) - np.mean(random.after))
    assert low <= mean <= high
    assert f"above a random change: {mean:+.1%}" in str(result)


def test_neither_the_control_nor_a_random_change_is_ever_a_cure(cured):
    result, _ = cured
    assert is_cure(result.best)
    assert not any(is_cure(replace(result.best, prescription=name)) for name in (RANDOM, CONTROL))


def test_both_runs_hold_findings_and_verdicts(cured):
    result, _ = cured
    published = json.loads(result.to_json())
    assert result.baseline.result["findings"] == published["findings"]
    for run in (result.baseline, result.run):
        assert run.result["verdicts"] == published["verdicts"]
    assert (result.run.folder / result.run.result["untreated"]).resolve() == result.baseline.folder.resolve()


def test_the_cured_recipe_differs_by_the_prescription_alone(cured):
    result, _ = cured
    assert set(result.baseline.recipe.differences(result.run.recipe)) == {"alterations"}


def test_a_healthy_network_is_left_alone(tmp_path, digits):
    result = cure(deep(model_options={"depth": 1}), out=tmp_path / "healthy", data=digits, quiet=True)
    assert result.verdicts == ()
    assert result.run is None
    assert "nothing to cure" in str(result)


def test_what_nothing_cures_is_said_to_be_uncured(tmp_path, digits):
    """Weights that decay by half in one step, which makes it a long one: no prescription of ours touches the decay."""
    hopeless = deep(model_options={"depth": 1, "width": 1, "activation": "tanh"}, epochs=3, weight_decay=10.0)
    result = cure(hopeless, out=tmp_path / "hopeless", seeds=(0, 1), data=digits, quiet=True)
    assert result.diagnosis.rules == ("long-steps",)
    assert result.best is None
    assert "no cure was proved" in str(result)


@pytest.mark.parametrize(
    ("patient", "seeds", "error", "message"),
    [
        (torch.nn.Linear(2, 2), (0, 1), InvalidOption, "got Linear; expected a recipe"),
        ("no such folder", (0, 1), RunMismatch, "not a run folder"),
        (deep(), (0,), InvalidOption, "at least two"),
    ],
)
def test_what_cannot_be_cured_is_refused_before_anything_is_trained(tmp_path, patient, seeds, error, message):
    with pytest.raises(error, match=message):
        inspect.unwrap(cure)(patient, seeds=seeds, out=tmp_path / "cure", quiet=True)
    assert not (tmp_path / "cure").exists()

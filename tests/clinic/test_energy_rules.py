"""Rules, progress and prescriptions of models that learn from their own samples."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from deepforward import catalogue
from deepforward.clinic import Evidence, conclude, cure, diagnose, evidence_of, prescribe, trial
from deepforward.clinic.chance import Span, guess, is_likelihood, likelihood_span
from deepforward.clinic.energy_prescriptions import settled
from deepforward.clinic.rules.energy import (
    ALIKE,
    CARRIED,
    IDLE,
    MEMORISED,
    STILL,
    idle_units,
    overfitting,
    stuck_chains,
    unstable_learning,
)
from deepforward.clinic.rules.not_finite import not_finite
from deepforward.clinic.rules.progress import JUMP, no_progress
from deepforward.clinic.trials import fit_anyway
from deepforward.data import load
from deepforward.engine import Recipe, fit
from deepforward.errors import InvalidOption, NoEffect
from deepforward.models.energy import RBM, BoltzmannMachine
from tests.clinic.examples import history

CHANCE, FLOOR = 30.0, 10.0
PERSISTENT = {"objective": "contrastive-divergence", "objective_options": {"persistent": True}}
HEALTHY = {
    "chains/mixing": 1.0,
    "chains/diversity": 1.0,
    "units/dead": 0.0,
    "units/always_on": 0.0,
    "train/free_energy": -50.0,
    "validation/free_energy": -49.5,
    "validation/pseudo_log_likelihood": -20.0,
}
RECIPE = Recipe(
    model="rbm",
    model_options={"hidden": 8, "weight_scale": 0.5},
    data="bars-and-stripes?n=200",
    objective_options={"persistent": True, "centre": False},
    learning_rate=0.5,
    schedule="constant",
    validation=0.2,
    epochs=4,
    batch_size=20,
    averaging=0.0,
    precision="fp32",
    threads=1,
)


def rows(*late: dict[str, float], first: int = 2) -> list[dict[str, float]]:
    """Healthy epochs, then as many or more that differ from them."""
    return [{"epoch": i, "step": 200 * i, "train/loss": 0.1} | HEALTHY | row for i, row in enumerate(({},) * first + late, 1)]


def machine(*late: dict[str, float], reached: float | None = 25.0, **changes: object) -> Evidence:
    """Evidence of a machine that has learnt a quarter of what there is, and ended in that state."""
    seen = Evidence(
        history=rows(*late, *late[-1:], *({},) * (not late)),
        recipe=PERSISTENT,
        descends=False,
        chance=CHANCE,
        floor=FLOOR,
        reached=reached,
    )
    return replace(seen, **changes)


ILL = {
    stuck_chains: {"chains/mixing": 0.05},
    idle_units: {"units/dead": 0.4, "units/always_on": 0.3},
    overfitting: {"validation/free_energy": -40.0},
    unstable_learning: {"chains/mixing": 3.0},
}
#: Severity where progress is unknown: 1 - mixing, the share of idle units, the share of the span memorised, mixing - 1 up to 1.
ALONE = {stuck_chains: 0.95, idle_units: 0.7, overfitting: 9.5 / 20, unstable_learning: 1.0}


@pytest.mark.parametrize("rule", ILL)
def test_a_rule_fires_on_its_illness_alone_and_is_the_only_one(rule):
    """What is left to learn is the severity; where that is unknown, the number that the rule judges is."""
    assert conclude(machine()).rules == ()
    (finding,) = conclude(machine(ILL[rule])).findings
    assert finding.rule == rule.__name__.replace("_", "-")
    assert finding.severity == pytest.approx(0.75)
    (unmeasured,) = conclude(machine(ILL[rule], reached=None)).findings
    assert unmeasured.severity == pytest.approx(ALONE[rule])


@pytest.mark.parametrize("rule", ILL)
def test_what_was_ill_at_first_and_has_recovered_is_not_ill(rule):
    begun_ill = [row | ILL[rule] for row in rows({}, first=1)] + rows({}, {}, {}, first=0)
    assert rule(machine(history=begun_ill)) == []


@pytest.mark.parametrize("rule", ILL)
def test_a_rule_is_silent_where_its_columns_are_missing_or_not_numbers(rule):
    assert rule(Evidence()) == []
    assert rule(Evidence(history=history(2.3, 2.2), chance=2.3)) == []
    nothing = dict.fromkeys(HEALTHY, math.nan)
    assert rule(machine(nothing, history=[row | nothing for row in rows({})])) == []


@pytest.mark.parametrize("rule", ILL)
def test_a_machine_that_thrives_is_not_ill_whatever_its_chains_do(rule):
    assert rule(machine(ILL[rule] | {"validation/free_energy": -20.0}, reached=FLOOR + 1.0)) == []


@pytest.mark.parametrize(
    ("rule", "column", "ill", "well"),
    [
        (stuck_chains, "chains/mixing", STILL - 0.01, STILL),
        (stuck_chains, "chains/diversity", ALIKE - 0.01, ALIKE),
        (idle_units, "units/dead", IDLE + 0.01, IDLE),
        (idle_units, "units/always_on", IDLE + 0.01, IDLE),
        (unstable_learning, "chains/mixing", CARRIED + 0.01, CARRIED),
        (unstable_learning, "validation/pseudo_log_likelihood", -CHANCE - JUMP * 20 - 0.01, -CHANCE - JUMP * 20),
        (overfitting, "validation/free_energy", -49.5 + 0.251 * 20, -49.5 + 0.25 * 20),
    ],
)
def test_the_threshold_itself_is_still_well(rule, column, ill, well):
    """Progress is 0.25 here, which is above MEMORISED, so that the gap must exceed 0.25 of a span of 20 nats."""
    assert [finding.rule for finding in rule(machine({column: ill}))] == [rule.__name__.replace("_", "-")]
    assert rule(machine({column: well})) == []


def test_little_that_is_memorised_is_no_overfitting_though_nothing_else_was_learnt():
    just = MEMORISED * (CHANCE - FLOOR)
    assert overfitting(machine({"validation/free_energy": -49.5 + just}, reached=CHANCE)) == []
    (finding,) = overfitting(machine({"validation/free_energy": -49.4 + just}, reached=CHANCE))
    assert finding.evidence["memorised"] == pytest.approx(MEMORISED + 0.1 / 20)


def test_a_gap_is_that_of_log_likelihoods_and_blind_to_a_shift_of_all_energies():
    shifted = [{k: v - 1e4 if "free_energy" in k else v for k, v in row.items()} for row in machine(ILL[overfitting]).history]
    (one,), (other,) = overfitting(machine(ILL[overfitting])), overfitting(machine(history=shifted))
    assert one.evidence["memorised"] == pytest.approx(other.evidence["memorised"]) == pytest.approx(9.5 / 20)
    assert overfitting(machine(ILL[overfitting], chance=None)) == []  # nothing to hold the gap against


def test_chains_that_start_at_the_data_need_not_mix():
    fresh = {"objective": "contrastive-divergence", "objective_options": {}}
    for rule, mixing in ((stuck_chains, 0.05), (unstable_learning, 3.0)):
        assert [finding.evidence["mixing"] for finding in rule(machine(ILL[rule]))] == [mixing]
        assert rule(machine(ILL[rule], recipe=fresh)) == []
        own_loop = rule(machine(ILL[rule], recipe={}))  # somebody's, which watched its chains
        assert [finding.evidence["mixing"] for finding in own_loop] == [mixing]


def test_chains_that_are_carried_along_together_are_not_called_stuck():
    together = {"chains/mixing": 2.0, "chains/diversity": 0.3}
    assert stuck_chains(machine(together)) == []
    assert conclude(machine(together)).rules == ("unstable-learning",)
    assert conclude(machine({"chains/mixing": 0.9, "chains/diversity": 0.3})).rules == ("stuck-chains",)


def test_a_step_that_is_too_long_explains_what_it_does_to_the_units():
    both = ILL[unstable_learning] | ILL[idle_units] | ILL[overfitting]
    assert [finding.evidence for finding in idle_units(machine(both))] == [{"dead": 0.4, "always_on": 0.3}]
    assert [finding.evidence["gap"] for finding in overfitting(machine(both))] == [10.0]
    assert conclude(machine(both)).rules == ("unstable-learning",)


def test_a_machine_at_chance_is_found_once_it_has_had_enough_steps():
    (finding,) = conclude(machine(reached=CHANCE)).findings
    assert (finding.rule, finding.prescriptions) == ("no-progress", ("faster-learning", "slower-learning"))
    assert "independent units with the rates of the data have 30" in finding.cause
    early = [row | {"step": 50} for row in machine().history]
    assert no_progress(machine(reached=CHANCE, history=early)) == []
    assert conclude(machine(ILL[stuck_chains], reached=CHANCE)).rules == ("stuck-chains",)


def test_a_gap_of_energies_that_jumps_is_no_jump_of_a_loss():
    jumping = [row | {"train/loss": 100.0 * (-1) ** i} for i, row in enumerate(machine().history)]
    assert conclude(machine(history=jumping)).rules == ()


def test_energies_that_overflow_are_met_with_shorter_steps_not_with_a_finder_that_reads_the_loss():
    (finding,) = not_finite(machine(history=[*rows({}), {"epoch": 4, "train/loss": math.nan}], reached=math.nan))
    assert finding.prescriptions == ("slower-learning",)


def test_progress_is_the_share_of_what_lies_between_chance_and_floor():
    assert machine(reached=25.0).progress == pytest.approx(0.25)
    assert [machine(reached=loss).progress for loss in (CHANCE + 9, math.nan, math.inf, FLOOR, FLOOR - 1)] == [0, 0, 0, 1, 1]
    assert machine(reached=None).progress is None
    assert machine(chance=None).progress is None
    assert machine(floor=CHANCE).progress is None


def independent_loss(samples: np.ndarray) -> float:
    """Cross-entropy of independent units fitted to zeros and ones, example by example."""
    rates = samples.mean(0)
    likelihood = np.where(samples == 1, rates, 1 - rates)
    return float(-np.log(np.where(likelihood == 0, 1.0, likelihood)).sum(1).mean())


@pytest.mark.parametrize("binarize", ["stochastic", "threshold", "none"])
def test_chance_is_the_cross_entropy_of_independent_units(binarize):
    """Against many drawn data sets laid end to end: 4000 draws of 40 examples of 5 units, whose mean errs by less than 0.01."""
    values = torch.rand(40, 1, 1, 5, generator=torch.Generator().manual_seed(0))
    found = likelihood_span(RBM((1, 1, 5), hidden=2), binarize, values)
    flat = values.flatten(1).double().numpy()
    repeated = np.tile(flat, (4000, 1))
    drawn = (np.random.default_rng(0).random(repeated.shape) < repeated).astype(float)
    samples = (flat > 0.5).astype(float) if binarize == "threshold" else drawn
    assert found.chance == pytest.approx(independent_loss(samples), abs=0.01)
    noise = -(flat * np.log(flat) + (1 - flat) * np.log(1 - flat)).sum(1).mean()
    assert found.floor == pytest.approx(0.0 if binarize == "threshold" else noise)


def test_an_rbm_without_weights_stands_at_chance_and_no_rbm_below_the_floor():
    """The likelihood itself, by enumeration, of the machine at the rates of the data and of one fitted to a single example."""
    values = torch.tensor([[1.0, 0.0, 0.5, 0.25]] * 3 + [[0.0, 1.0, 0.5, 0.75]])
    model = RBM((4,), hidden=2, weight_scale=0.0)
    with torch.no_grad():
        model.visible_units.bias.copy_(values.mean(0).logit())
        loss = float(model.free_energy(values).mean()) + model.log_partition()  # linear in v: exact for expected draws
        assert likelihood_span(model, "none", values).chance == pytest.approx(loss, abs=1e-5)
        one = values[:1]
        model.visible_units.bias.copy_(one[0].clamp(1e-6, 1 - 1e-6).logit())
        best = float(model.free_energy(one).mean()) + model.log_partition()
    assert likelihood_span(model, "stochastic", one).floor == pytest.approx(best, abs=1e-3)


def test_gaussian_units_are_held_against_normals_and_a_learnt_precision_has_no_floor():
    values = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.5, 1.0, 2.0])
    found = likelihood_span(RBM((3,), hidden=2, visible="gaussian"), "stochastic", values)
    normal = torch.distributions.Normal(values.double().mean(0), 1.0)
    assert found.chance == pytest.approx(float(-normal.log_prob(values.double()).sum(1).mean()))
    assert found.floor == pytest.approx(float(-normal.log_prob(normal.mean).sum()))
    assert likelihood_span(RBM((3,), hidden=2, visible="gaussian", learn_precision=True), "stochastic", values) is None


def test_softmax_units_are_held_against_the_shares_of_their_categories():
    values = torch.eye(3).repeat(2, 1)[[0, 0, 0, 1, 2, 2]].repeat(1, 2)
    shares = np.array([3, 1, 2]) / 6
    found = likelihood_span(RBM((6,), hidden=2, visible="softmax", categories=3), "stochastic", values)
    assert found == Span(pytest.approx(-2 * float((shares * np.log(shares)).sum())), 0.0)


@pytest.mark.parametrize("hidden", [0, 2])
def test_a_boltzmann_machine_is_held_against_its_visible_units_alone(hidden):
    values = torch.rand(40, 5, generator=torch.Generator().manual_seed(0))
    for binarize in ("stochastic", "threshold"):
        expected = likelihood_span(RBM((5,), hidden=2), binarize, values)
        assert expected is not None
        assert likelihood_span(BoltzmannMachine((5,), hidden=hidden), binarize, values) == expected


def test_a_likelihood_is_what_an_objective_declares_and_says_what_guessing_knows():
    names = {card.name for card in catalogue.cards("objectives") if is_likelihood(card.name)}
    assert names == {"contrastive-divergence", "exact-likelihood", "layerwise-contrastive-divergence", "up-down"}
    assert {guess(name) for name in names} == {"the rate of each unit"}
    assert [guess(name) for name in ("cross-entropy", "mse-one-hot", "squared-error", "")] == (
        ["class frequency", "class frequency", "the mean", "class frequency"]
    )


def test_what_the_data_tell_is_taken_from_a_sibling_and_the_rest_from_the_run(bars, tmp_path):
    runs = [fit(RECIPE.replace(seed=seed, epochs=1), tmp_path / str(seed), quiet=True, data=bars) for seed in (0, 1)]
    first, own = map(evidence_of, runs)

    def plain(evidence: Evidence) -> dict[str, object]:
        return {field.name: getattr(evidence, field.name) for field in fields(Evidence) if field.name != "readings"}

    assert plain(evidence_of(runs[1], sibling=first)) == plain(own)
    other = replace(first, chance=7.0, floor=1.0, input_scale=2.0)
    assert plain(evidence_of(runs[1], sibling=other)) == plain(own) | {"chance": 7.0, "floor": 1.0, "input_scale": 2.0}
    assert own.history != first.history


def test_a_model_whose_visible_units_are_unknown_has_no_chance_level():
    assert likelihood_span(torch.nn.Linear(4, 2), "stochastic", torch.rand(5, 4)) is None


CHANGES = {
    "parallel-tempering": {"objective_options": {"persistent": True, "centre": False, "temperatures": 10}},
    "more-sweeps": {"objective_options": {"persistent": True, "centre": False, "steps": 10}},
    "centring": {"objective_options": {"persistent": True, "centre": True}},
    "sparsity-target": {"objective_options": {"persistent": True, "centre": False, "sparsity": 0.1}},
    "slower-learning": {"learning_rate": 0.05},
    "faster-learning": {"learning_rate": 5.0},
    "decaying-rate": {"schedule": "linear"},
    "weight-decay": {"weight_decay": 0.003},
    "fewer-epochs": {"epochs": 1},
    "fewer-hidden-units": {"model_options": {"hidden": 2, "weight_scale": 0.5}},
    "small-weights": {"model_options": {"hidden": 8, "weight_scale": 0.01}},
}
#: Those that can be given again, each time for less or more.
REPEATABLE = {"more-sweeps", "slower-learning", "faster-learning", "fewer-hidden-units"}


@pytest.fixture(scope="module")
def bars():
    return load(RECIPE.data)


def test_every_prescription_of_this_kind_is_listed_here():
    assert set(CHANGES) == {card.name for card in catalogue.cards("prescriptions") if "energy_" in card.target}


@pytest.mark.parametrize("name", CHANGES)
def test_a_prescription_changes_its_own_field_only(name, bars):
    before = RECIPE.complete()
    after = prescribe([name], RECIPE, Evidence(), bars)
    assert {f.name: getattr(after, f.name) for f in fields(Recipe) if getattr(before, f.name) != getattr(after, f.name)} == (
        CHANGES[name]
    )
    if name not in REPEATABLE:
        with pytest.raises(NoEffect):
            prescribe([name], after, Evidence(), bars)


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("parallel-tempering", "got cross-entropy, which has no chains and no option 'persistent'"),
        ("more-sweeps", "got cross-entropy, which has no chains and no option 'steps'"),
        ("centring", "got cross-entropy, which has no chains and no option 'centre'"),
        ("sparsity-target", "got cross-entropy, which has no chains and no option 'sparsity'"),
        ("small-weights", "got perceptron, which is known to have no option 'weight_scale'"),
        ("fewer-hidden-units", "got perceptron, which is known to have no option 'hidden'"),
    ],
)
def test_what_only_machines_have_is_not_prescribed_to_others(name, refusal, bars):
    with pytest.raises(NoEffect) as refused:
        prescribe([name], Recipe(model="perceptron", model_options={"width": 8}), Evidence(), bars)
    assert str(refused.value) == f"{refusal}; choose another prescription"


def test_what_is_not_given_is_judged_by_the_defaults_of_what_the_recipe_names(bars):
    """CD is centred by default, an RBM's first weights small; a stranger's options are his own affair, known only if given."""
    usual = {"model": "rbm", "objective": "contrastive-divergence"}
    assert settled("centring", usual) == "the gradient is centred already"
    assert settled("small-weights", usual) == "the first weights are small already (0.01)"
    assert settled("small-weights", usual | {"model": "file.py:factory"}) == settled("centring", {}) == ""
    assert settled("small-weights", {"model": "file.py:factory", "model_options": {"weight_scale": 0.001}}) != ""
    assert settled("centring", {"objective": "cross-entropy"}) == settled("small-weights", {"model": "perceptron"}) == ""
    belief = Recipe(model="deep-belief-network", model_options={"hidden": [4, 3]}, data=RECIPE.data, objective="up-down")
    assert prescribe(["more-sweeps"], belief, Evidence(), bars).objective_options["steps"] == 30  # 3 by default


def test_what_the_recipe_has_already_is_not_prescribed():
    options = {"objective_options": {"persistent": True, "temperatures": 5}, "weight_decay": 0.1, "schedule": "linear"}
    found = conclude(machine(ILL[stuck_chains], recipe=PERSISTENT | options)).findings[0]
    assert found.prescriptions == ("slower-learning", "more-sweeps")
    assert conclude(machine(ILL[stuck_chains])).findings[0].prescriptions == (
        *("slower-learning", "parallel-tempering", "more-sweeps", "weight-decay", "decaying-rate"),
    )


def test_a_rate_is_not_found_by_a_loss_that_means_nothing(bars):
    with pytest.raises(NoEffect, match="choose slower-learning or faster-learning"):
        prescribe(["learning-rate"], RECIPE, Evidence(), bars)
    assert prescribe(["faster-learning"], RECIPE.replace(learning_rate=0.0), Evidence(), bars).learning_rate == 0.05
    with pytest.raises(NoEffect, match="got a rate of 0"):
        prescribe(["slower-learning"], RECIPE.replace(learning_rate=0.0), Evidence(), bars)


def test_the_progress_of_a_run_is_what_its_likelihood_tells_and_not_that_of_the_test_split(bars, tmp_path):
    run = fit(RECIPE, tmp_path / "run", quiet=True, data=bars)
    rates = bars.train.inputs.flatten(1).double().mean(0)
    chance = -(rates * rates.log() + (1 - rates) * (1 - rates).log()).sum()
    evidence = evidence_of(run)
    assert (evidence.chance, evidence.floor) == (pytest.approx(float(chance)), 0.0)
    assert evidence.loss == -run.metrics["validation/log_likelihood"] != -run.metrics["test/log_likelihood"]
    assert evidence.progress == pytest.approx(max(0.0, 1 - evidence.loss / float(chance)))


def test_a_run_that_ended_in_overflow_has_made_no_progress(bars, tmp_path):
    run = fit_anyway(RECIPE.replace(learning_rate=1e38, epochs=1), tmp_path / "run", bars, quiet=True)
    assert run.result["status"] == "diverged"
    assert evidence_of(run).progress == 0.0
    assert diagnose(run).rules == ("not-finite",)


@pytest.mark.parametrize("lacking", [{"validation": 0.0}, {"objective_options": {"persistent": True, "ais_chains": 0}}])
def test_without_a_likelihood_of_held_out_examples_a_run_is_diagnosed_but_no_trial_made(bars, tmp_path, lacking):
    recipe = RECIPE.replace(epochs=1, **lacking)
    evidence = diagnose(fit(recipe, tmp_path / "run", quiet=True, data=bars)).evidence
    assert evidence.progress is None
    with pytest.raises(InvalidOption, match=r"no likelihood of validation examples .*\(validation=0.1\)"):
        trial(recipe, "slower-learning", "stuck-chains", seeds=(0, 1), data=bars)


def test_an_untrained_machine_is_looked_at_and_left_as_found():
    model = RBM((1, 8, 8), hidden=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = diagnose(model, "digits", objective="contrastive-divergence", scaling="min-max")
    assert found.rules == ()
    assert found.evidence.readings.steps
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_machine_whose_steps_are_too_long_is_cured(tmp_path, unchecked):
    """Over seeds 0 to 2 both prescriptions bring 14% and more at the lower ends of their intervals, where 10% is worth it."""
    ill = RECIPE.replace(data="digits", model_options={"hidden": 8}, learning_rate=10.0, epochs=3, batch_size=10)
    ill = ill.replace(objective_options={"persistent": True}, averaging=0.9, validation=0.3, weight_decay=0.003)
    baseline = fit(ill, tmp_path / "baseline", quiet=True)
    with unchecked():
        result = cure(baseline, out=tmp_path / "cure", seeds=(0, 1, 2), quiet=True)
    assert result.diagnosis.rules == ("unstable-learning",)
    assert result.best is not None, str(result)
    assert result.best.prescription in ("slower-learning", "decaying-rate")
    assert result.run.metrics["test/log_likelihood"] > result.baseline.metrics["test/log_likelihood"] + 3
    assert "unstable-learning" not in result.after.rules
    (changed,) = result.baseline.recipe.differences(result.run.recipe)
    assert changed in ("learning_rate", "schedule")

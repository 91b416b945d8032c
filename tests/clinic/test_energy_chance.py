"""Chance, floor and progress of models that learn from their own samples."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from deepforward import catalogue
from deepforward.clinic import Evidence, diagnose, evidence_of, trial
from deepforward.clinic.chance import Span, guess, is_likelihood, likelihood_span
from deepforward.clinic.trials import fit_anyway
from deepforward.engine import fit
from deepforward.errors import InvalidOption
from deepforward.models.energy import RBM, BoltzmannMachine
from tests.clinic.energy_examples import CHANCE, FLOOR, RECIPE, machine


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

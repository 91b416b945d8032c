"""Exact likelihood against enumeration written out anew, and what it refuses."""

import math

import pytest
import torch

from deepforward.data import Batch
from deepforward.engine import Recipe, fit
from deepforward.errors import InvalidData, InvalidModel, TooLarge, UnknownName
from deepforward.models.energy import RBM, BoltzmannMachine
from deepforward.models.energy.enumeration import all_states
from deepforward.models.perceptrons import Perceptron
from deepforward.objectives import ExactLikelihood


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def model_of(kind, dtype=torch.float64):
    torch.manual_seed(0)
    model = {
        "boltzmann": lambda: BoltzmannMachine((5,), weight_scale=1.0),
        "boltzmann, hidden": lambda: BoltzmannMachine((5,), hidden=2, weight_scale=1.0),
        "rbm": lambda: RBM((5,), hidden=3, weight_scale=1.0),
        "gaussian rbm": lambda: RBM((5,), hidden=3, visible="gaussian", weight_scale=1.0),
    }[kind]()
    return model.to(dtype)


def batch_of(rows):
    return Batch(rows, torch.zeros(len(rows), dtype=torch.long))


@pytest.mark.parametrize("kind", ["boltzmann", "boltzmann, hidden", "rbm"])
def test_the_loss_is_minus_the_mean_log_likelihood_and_so_is_its_gradient(kind):
    model = model_of(kind)
    hidden = {"boltzmann": 0, "boltzmann, hidden": 2, "rbm": 3}[kind]
    v, h = next(all_states(5, like=torch.zeros((), dtype=torch.float64))), torch.zeros(1, 0, dtype=torch.float64)
    if hidden:
        h = next(all_states(hidden, like=v))
    joint = torch.stack([-model.energy((row.expand(len(h), -1), h)) for row in v])
    rows = [0, 3, 3, 17]
    expected = joint.flatten().logsumexp(0) - joint[rows].logsumexp(1).mean()
    (signal,) = ExactLikelihood().signals(model, batch_of(v[rows]), generator())
    assert signal.loss.item() == pytest.approx(expected.item(), abs=1e-12)
    found, wanted = (torch.autograd.grad(loss, list(model.parameters())) for loss in (signal.loss, expected))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(found, wanted, strict=True))


def test_a_gaussian_machine_is_counted_over_its_hidden_units():
    """At weights of 0 the visible units are standard normal."""
    model = model_of("gaussian rbm")
    with torch.no_grad():
        model.weight.zero_()
    rows = torch.randn(7, 5, generator=generator(), dtype=torch.float64)
    (signal,) = ExactLikelihood().signals(model, batch_of(rows), generator())
    expected = 0.5 * rows.square().sum(1).mean() + 2.5 * math.log(2 * math.pi)
    assert signal.loss.item() == pytest.approx(expected.item(), abs=1e-12)


def test_scores_are_sums_and_the_conclusion_is_their_mean():
    model, objective = model_of("boltzmann"), ExactLikelihood()
    rows = torch.randint(2, (9, 5), generator=generator()).double()
    (signal,) = objective.signals(model, batch_of(rows), generator())
    assert objective.score(model, batch_of(rows), generator())["loss"].item() == pytest.approx(9 * signal.loss.item())
    found = objective.conclude(model, {"test": rows}, generator())
    assert found["test/log_likelihood"] == pytest.approx(-signal.loss.item())
    assert found["log_partition"] == pytest.approx(model.log_partition())


def test_grey_values_are_drawn_or_taken_as_they_are():
    model, grey = model_of("boltzmann"), torch.full((1, 5), 0.5, dtype=torch.float64)
    losses = {
        how: {next(ExactLikelihood(how).signals(model, batch_of(grey), generator(seed))).loss.item() for seed in range(5)}
        for how in ("stochastic", "threshold", "none")
    }
    assert len(losses["stochastic"]) > 1
    assert len(losses["threshold"]) == len(losses["none"]) == 1
    assert losses["threshold"] != losses["none"]


@pytest.mark.parametrize(("model", "options"), [("boltzmann-machine", {}), ("rbm", {"hidden": 8, "weight_scale": 0.5})])
def test_it_trains_through_the_engine(tmp_path, model, options):
    recipe = Recipe(
        model=model,
        model_options=options,
        data="bars-and-stripes?size=3&n=300",
        objective="exact-likelihood",
        objective_options={},
        validation=0.1,
        epochs=30,
        batch_size=30,
        optimizer="adam",
        learning_rate=0.05,
        device="cpu",
        probe_budget=0.0,
    )
    run = fit(recipe, tmp_path / "run", quiet=True)
    losses = [row["train/loss"] for row in run.history]
    assert losses[-1] < losses[0] - 0.5
    assert run.metrics["test/log_likelihood"] == pytest.approx(-run.metrics["test/loss"], abs=1e-4)


def test_too_many_states_are_refused_before_training():
    with pytest.raises(TooLarge, match=r"30 binary units, 2\^30 states.*; use contrastive-divergence") as caught:
        ExactLikelihood().prepare(BoltzmannMachine((30,)), torch.zeros(2, 30), generator())
    assert "\n" not in str(caught.value)


def test_a_model_without_an_exact_likelihood_is_refused():
    for model in (Perceptron((5,), 2), BoltzmannMachine((5,), hidden=13)):
        with pytest.raises(InvalidModel, match=f"exact-likelihood got {type(model).__name__}; .*use contrastive-divergence"):
            ExactLikelihood().prepare(model, torch.zeros(2, 5), generator())


def test_bad_data_and_names_are_refused():
    with pytest.raises(InvalidData, match="got nan in example 0, unit 0"):
        ExactLikelihood().prepare(BoltzmannMachine((5,)), torch.full((2, 5), math.nan), generator())
    with pytest.raises(UnknownName, match="binarisation"):
        ExactLikelihood("sometimes").prepare(BoltzmannMachine((5,)), torch.zeros(2, 5), generator())


def test_preparing_sets_the_biases_to_the_statistics_of_the_data():
    model = BoltzmannMachine((2,), weight_scale=0.0)
    data = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    ExactLikelihood().prepare(model, data, generator())
    assert torch.allclose(model.bias.sigmoid(), torch.tensor([5 / 6, 2 / 6]))

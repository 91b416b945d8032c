"""Up-down: its gradients against autograd, and what it does to a network."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from deepforward.data.dataset import Batch
from deepforward.engine import Recipe, Run, checkpoint, fit, training
from deepforward.engine import step as step_module
from deepforward.errors import InvalidData, InvalidModel, InvalidOption
from deepforward.models.energy import DeepBeliefNetwork
from deepforward.objectives import UpDown


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def network(hidden=(4, 3, 2), dtype=torch.float64):
    model = DeepBeliefNetwork((5,), hidden=hidden).to(dtype)
    model.untie()
    with torch.no_grad():
        for number, values in enumerate(model.parameters()):
            values.copy_(torch.randn(values.shape, generator=rng(number), dtype=dtype))
    return model


def draws(*sizes, rows=9):
    return tuple(torch.rand(rows, n, generator=rng(n), dtype=torch.float64).round() for n in sizes)


def log_bernoulli(values, inputs):
    return -F.binary_cross_entropy_with_logits(inputs, values, reduction="none").sum(1)


@pytest.mark.parametrize("hidden", [(4, 3, 2), (4, 3), (4,)])
def test_wake_and_sleep_gradients_are_those_of_autograd(hidden):
    model, state = network(hidden), draws(5, *hidden[:-1])
    wake = sleep = torch.zeros(9, dtype=torch.float64)
    for number, (below, above) in enumerate(pairwise(state)):
        machine, recognition = model.stack[number], model.recognition[number]
        wake = wake - log_bernoulli(below, above @ machine.weight.t() + machine.visible_units.bias)
        sleep = sleep - log_bernoulli(above, below @ recognition.weight + recognition.bias)
    for loss, gradients in ((wake, model.wake_gradients(state)), (sleep, model.sleep_gradients(state))):
        assert len(gradients) == 2 * (len(hidden) - 1)
        if not gradients:
            continue
        model.zero_grad()
        loss.mean().backward(retain_graph=True)
        for name, p in model.named_parameters():
            if name in gradients:
                assert torch.allclose(gradients[name], p.grad, atol=1e-13, rtol=0)
            else:
                assert p.grad is None


def test_the_signal_is_wake_sleep_and_contrastive_divergence_of_the_top():
    """One step against the loss written out, on the states that the same random numbers give."""
    model, objective = network(), UpDown(steps=2)
    inputs = torch.rand(30, 5, generator=rng(1), dtype=torch.float64)
    batch = Batch(inputs, torch.zeros(30, dtype=torch.long))
    (signal,) = objective.signals(model, batch, rng(4))
    signal.loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == {n for n, _ in model.named_parameters()} - {f"stack.{k}.hidden_units.bias" for k in (0, 1)}
    model.zero_grad()
    draw = rng(4)
    wake = model.recognise(model.realise(model.visible(inputs), "stochastic", draw), draw)
    data, begun = model.top.observe(wake[-1], draw)
    dreamt, drawn = model.top.dream(begun, draw, 2)
    sleep = model.generate(drawn[0], draw)
    loss = model.top.energy(data).mean() - model.top.energy(dreamt).mean()
    for number, (machine, recognition) in enumerate(zip(model.stack, model.recognition, strict=False)):
        loss = loss - log_bernoulli(wake[number], wake[number + 1] @ machine.weight.t() + machine.visible_units.bias).mean()
        loss = loss - log_bernoulli(sleep[number + 1], sleep[number] @ recognition.weight + recognition.bias).mean()
    loss.backward()
    for name, gradient in found.items():
        assert torch.allclose(gradient, model.get_parameter(name).grad, atol=1e-12, rtol=0)
    assert torch.equal(data[0], wake[-1])  # the chains begin where recognition ends, and dreams where the chains end
    assert torch.equal(sleep[-1], drawn[0])


def test_dreams_keep_means_where_data_are_means(monkeypatch):
    model, seen = network(dtype=torch.float32), []
    original = DeepBeliefNetwork.sleep_gradients
    monkeypatch.setattr(DeepBeliefNetwork, "sleep_gradients", lambda self, state: seen.append(state) or original(self, state))
    batch = Batch(torch.rand(30, 5, generator=rng(1)), torch.zeros(30, dtype=torch.long))
    for binarize, whole in (("none", False), ("stochastic", True)):
        list(UpDown(binarize=binarize).signals(model, batch, rng()))
        visible = seen[-1][0]
        assert torch.equal(visible, visible.round()) is whole
        assert all(torch.equal(values, values.round()) for values in seen[-1][1:])


def test_preparation_unties_and_checks():
    model = DeepBeliefNetwork((5,), hidden=(4, 3))
    UpDown().prepare(model, torch.rand(30, 5, generator=rng()), rng())
    assert not model.tied
    assert model.stack[0].visible_units.bias.abs().sum() > 0
    with pytest.raises(InvalidData, match="expected numbers from 0 to 1"):
        UpDown().prepare(model, torch.full((3, 5), float("nan")), rng())
    with pytest.raises(InvalidModel, match="up-down got Linear"):
        UpDown().prepare(torch.nn.Linear(5, 2), torch.rand(3, 5), rng())


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": True}, {"ais_chains": -1}, {"ais_temperatures": 1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InvalidOption, match=next(iter(options))):
        UpDown(**options)


def test_the_conclusion_is_the_exact_bound_where_that_can_be_counted():
    model = network((4, 3)).requires_grad_(False)
    splits = {"test": torch.rand(30, 5, generator=rng(), dtype=torch.float64).round()}
    found = UpDown().conclude(model, splits, rng())
    bound = float((model.exact_bound(splits["test"]) - model.log_partition()).mean())
    assert found["test/log_likelihood_bound"] == pytest.approx(bound, abs=1e-9)
    assert bound <= float(model.exact_log_probability(splits["test"]).mean())
    assert UpDown(ais_chains=0).conclude(model, splits, rng()) == {}


def test_pictures_and_readings_have_the_shape_of_the_data():
    model, objective = DeepBeliefNetwork((2, 3), hidden=(4, 3)), UpDown()
    inputs = torch.rand(30, 2, 3, generator=rng())
    objective.prepare(model, inputs, rng())
    with torch.inference_mode():
        assert objective.snapshot(model, rng())["samples"].shape == (40, 2, 3)
        shown = objective.portrait(model, {"train": inputs, "test": inputs}, rng())
        assert shown["reconstructions"].shape[1:] == (2, 2, 3)
        assert shown["hidden_activity/2"].shape == (3,)
        assert objective.observe(model, rng()) == {"units/dead": 0.0, "units/always_on": 0.0}
        assert 0 < float(objective.score(model, Batch(inputs, torch.zeros(30)), rng())["reconstruction"]) < 30


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the engine may catch it and clean up."""


@pytest.mark.parametrize("model", ["deep-belief-network", "deep-boltzmann-machine"])
def test_a_run_with_pretraining_resumes_with_the_same_bits(model, tmp_path, monkeypatch):
    options = {"ais_chains": 0} | ({"persistent": True, "centre": False} if "boltzmann" in model else {})
    recipe = Recipe(
        model=model, model_options={"hidden": (7, 5)}, objective_options=options, epochs=1, batch_size=300, probe_budget=0.0
    )
    stages = tuple({**stage, "batch_size": 300} for stage in recipe.complete().pretraining)
    recipe = recipe.replace(pretraining=stages)
    whole = fit(recipe, tmp_path / "whole", quiet=True)
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    original, steps, interruptions = step_module.Stepper.step, 0, 0

    def dying(self, *arguments, **options):
        nonlocal steps
        steps += 1
        result = original(self, *arguments, **options)
        if steps % 4 == 3:
            raise Killed
        return result

    monkeypatch.setattr(step_module.Stepper, "step", dying)
    while not (tmp_path / "broken" / "result.json").exists():
        try:
            fit(recipe, tmp_path / "broken", resume=True, quiet=True)
        except Killed:
            interruptions += 1
    assert interruptions >= 3  # at least one in each of the three trainings
    one, other = (checkpoint.load(run.folder / "checkpoints", "newest")[0] for run in (whole, Run.open(tmp_path / "broken")))
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []

"""Sparse coding in the one engine: its step is the alternation by hand, and a run trains, resumes, shows and embeds."""

import pytest
import torch

from deepforward.data.dataset import Batch
from deepforward.engine import Recipe, Run, checkpoint, fit, training
from deepforward.engine.embedding import embed
from deepforward.engine.run_report import record_of
from deepforward.errors import InvalidModel, InvalidOption
from deepforward.layers.filter_learning import fit_filters, unit_norm
from deepforward.layers.synthesis import synthesise
from deepforward.models.deconvolutional import DeconvolutionalNetwork
from deepforward.models.perceptrons import Perceptron
from deepforward.objectives import SparseCoding


def rng():
    return torch.Generator().manual_seed(0)


def built():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DeconvolutionalNetwork((1, 8, 8), maps=(3, 4), kernels=(3, 3))


def test_the_scale_of_the_layers_input_is_measured_and_the_codes_follow_it():
    """Inputs ten times as large have maps ten times as large."""
    model, objective = built(), SparseCoding(0)
    objective.prepare(model, batch().inputs, rng())
    one = model.stack[0].infer(batch().inputs).code.maps
    objective.prepare(model, 10 * batch().inputs, rng())
    ten = model.stack[0].infer(10 * batch().inputs).code.maps
    assert one.count_nonzero() > 0
    assert torch.allclose(ten, 10 * one, atol=1e-3)


def batch(count=6):
    return Batch(torch.rand(count, 1, 8, 8, generator=rng()), torch.zeros(count, dtype=torch.long))


def gradients(model, objective):
    (signal,) = objective.signals(model, batch(), rng())
    model.zero_grad(set_to_none=True)
    signal.loss.backward()
    return signal, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("layer", "number"), [(0, 0), (1, 1), (None, 1)])
def test_a_step_of_rate_one_is_the_alternation_by_hand(layer, number):
    model = built()
    with torch.no_grad():
        inputs = batch().inputs if number == 0 else model.stack[0](batch().inputs)
        code, filters = model.stack[number].infer(inputs).code, model.stack[number].unit_filters()
        wanted = unit_norm(fit_filters(code.maps, inputs, filters, 2))
    signal, found = gradients(model, SparseCoding(layer))
    assert found.keys() == {f"stack.{number}.filters"}
    assert torch.allclose(model.stack[number].filters - found[f"stack.{number}.filters"], wanted, atol=1e-6)
    assert torch.allclose(signal.loss, code.objective[-1].mean())


def test_its_direction_goes_down_the_gradient_of_the_error():
    model = built()
    layer = model.stack[0]
    with torch.no_grad():
        maps = layer.infer(batch().inputs).code.maps
    _, found = gradients(model, SparseCoding(0))
    error = (synthesise(maps, layer.unit_filters()) - batch().inputs).square().sum()
    (slope,) = torch.autograd.grad(error, layer.filters)
    assert (slope * found["stack.0.filters"]).sum() > 0


def test_scores_are_means_of_examples_and_shares():
    model, objective = built(), SparseCoding(0)
    sums = objective.score(model, batch(), rng())
    told = objective.summarise(sums, 6)
    code = model.stack[0].infer(batch().inputs).code
    assert told["loss"] == pytest.approx(code.objective[-1].mean().item(), rel=1e-5)
    assert told["unexplained"] == pytest.approx(
        ((code.fit - batch().inputs).square().sum() / batch().inputs.square().sum()).item(), rel=1e-5
    )
    assert told["zeros"] == pytest.approx((code.maps == 0).double().mean().item(), rel=1e-5)


def test_what_it_cannot_train_is_refused():
    with pytest.raises(InvalidModel, match="sparse coding got Perceptron; expected layers of filters"):
        SparseCoding().prepare(Perceptron((4,), 2), torch.zeros(1, 4), rng())
    with pytest.raises(InvalidOption, match="got layer=2 of a model of 2 layers"):
        SparseCoding(2).prepare(built(), batch().inputs, rng())
    for options in ({"layer": -1}, {"layer": True}, {"steps": 0}):
        with pytest.raises(InvalidOption):
            SparseCoding(**options)


@pytest.fixture(scope="module")
def recipe():
    options = {"maps": [4, 6], "kernels": [3, 3], "steps": 5}
    return Recipe(
        model="deconvolutional-network", model_options=options, data="digits", batch_size=200, epochs=2, probe_budget=0
    )


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    return fit(recipe, tmp_path_factory.mktemp("run") / "whole", quiet=True)


def test_a_run_trains_every_layer_and_lowers_its_objective(run):
    for stage in (Run.open(run.folder / "pretraining-1"), run):
        history = stage.history
        assert history[-1]["validation/loss"] < history[0]["validation/loss"]
        assert 0 < stage.metrics["test/unexplained"] < 1
        assert 0.3 < stage.metrics["test/zeros"] < 1


def test_a_run_is_shown_and_embeds(run):
    record = record_of(run)
    assert record.portrait["layers"].shape == (8, 3, 1, 8, 8)
    assert record.portrait["atoms/1"].shape == (4, 1, 3, 3)
    assert record.portrait["atoms/2"].shape == (6, 1, 8, 8)
    parts = run.parts()
    rows = embed(parts, run.data.test)
    assert rows.shape == (len(run.data.test), 6 * 4 * 4)
    assert rows.std(0).gt(0).any()


class Killed(BaseException):
    pass


def test_killed_and_resumed_it_gives_the_same_bits(run, recipe, tmp_path, monkeypatch):
    original, steps = training.Training._train_step, [0]

    def step(self, indices):
        original(self, indices)
        steps[0] += 1
        if steps[0] == 14 + 10:  # within the second epoch of the main run
            raise Killed

    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(training.Training, "_train_step", step)
    with pytest.raises(Killed):
        fit(recipe, tmp_path / "killed", quiet=True)
    monkeypatch.undo()
    resumed = fit(recipe, tmp_path / "killed", resume=True, quiet=True)
    one, other = (checkpoint.load(each.folder / "checkpoints", "newest")[0] for each in (run, resumed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)

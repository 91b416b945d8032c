"""Greedy training: one layer at a time, the others untouched."""

import pytest
import torch

from deepforward.data.dataset import Batch
from deepforward.engine import Recipe, fit
from deepforward.errors import InvalidData, InvalidModel, InvalidOption
from deepforward.models.energy import RBM, DeepBeliefClassifier, DeepBeliefNetwork, DeepBoltzmannMachine
from deepforward.objectives import ContrastiveDivergence, LayerwiseContrastiveDivergence

MODELS = {
    "network": lambda: DeepBeliefNetwork((2, 3), hidden=(5, 4, 3), weight_scale=0.5),
    "classifier": lambda: DeepBeliefClassifier((2, 3), 2, hidden=(5, 4, 3)),
    "machine": lambda: DeepBoltzmannMachine((2, 3), hidden=(5, 4, 3), weight_scale=0.5),
}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(rows=20):
    return Batch(torch.rand(rows, 2, 3, generator=rng(9)), torch.zeros(rows, dtype=torch.long))


def step(objective, model, examples, seed=3):
    (signal,) = objective.signals(model, examples, rng(seed))
    model.zero_grad(set_to_none=True)
    signal.loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("layer", range(3))
def test_only_the_layer_receives_gradients(name, layer):
    model = MODELS[name]()
    objective = LayerwiseContrastiveDivergence(layer=layer)
    objective.prepare(model, batch().inputs, rng())
    moved = step(objective, model, batch())
    own = {id(p) for p in model.stack[layer].parameters()}
    assert {key for key, p in model.named_parameters() if id(p) in own} == moved.keys()
    assert all(gradient.abs().sum() > 0 for gradient in moved.values())


@pytest.mark.parametrize("persistent", [False, True])
def test_it_is_contrastive_divergence_on_the_means_below(persistent):
    model = MODELS["network"]()
    twin = RBM((5,), hidden=4)
    twin.load_state_dict(model.stack[1].state_dict())
    options = {"steps": 2, "persistent": persistent, "chains": 7}
    layerwise, plain = LayerwiseContrastiveDivergence(layer=1, **options), ContrastiveDivergence(**options)
    below = model.stack[0](batch().inputs).detach()
    layerwise.prepare(model, batch().inputs, rng())
    plain.prepare(twin, below, rng())
    found = step(layerwise, model, batch())
    for name, gradient in step(plain, twin, batch()._replace(inputs=below)).items():
        assert torch.equal(found[f"stack.1.{name}"], gradient)
    one, other = layerwise.observe(model, rng()), plain.observe(twin, rng())
    assert one == other and one
    one, other = layerwise.score(model, batch(), rng()), plain.score(twin, batch()._replace(inputs=below), rng())
    assert one == other and one


@pytest.mark.parametrize("layer", range(3))
def test_the_likelihood_is_measured_when_the_last_layer_is_trained(layer):
    for name, model in MODELS.items():
        built, objective = model(), LayerwiseContrastiveDivergence(layer=layer, ais_chains=3)
        objective.prepare(built, batch().inputs, rng())
        found = objective.conclude(built, {"test": batch().inputs}, rng())
        assert ("test/log_likelihood_bound" in found) == (layer == 2 and name != "classifier")
    silent = LayerwiseContrastiveDivergence(layer=2, ais_chains=0)
    model = MODELS["network"]()
    silent.prepare(model, batch().inputs, rng())
    assert silent.conclude(model, {"test": batch().inputs}, rng()) == {}


@pytest.mark.parametrize("binarize", ["stochastic", "threshold", "none"])
def test_a_machine_with_copies_is_seen_and_shown_as_single_units(binarize):
    """Sums over copies reach 2; shares of ones, squared errors a unit and pictures do not."""
    model = DeepBoltzmannMachine((6,), hidden=(5, 4, 3), weight_scale=0.5)
    inputs = batch().inputs.flatten(1)
    inputs[:, 0] = 0.9  # always on where a threshold is applied
    for layer in range(3):
        objective = LayerwiseContrastiveDivergence(layer=layer, binarize=binarize, persistent=True, chains=50)
        objective.prepare(model, inputs, rng())
        moved = step(objective, model, Batch(inputs, torch.zeros(20)))
        assert all(gradient.isfinite().all() for gradient in moved.values())
        assert all(values.isfinite().all() for values in model.state_dict().values())
        sums = objective.score(model, Batch(inputs, torch.zeros(20)), rng())
        assert 0 < sums["reconstruction"] / 20 < 0.5
        with torch.no_grad():
            small = model.stack[layer]
            small.hidden_units.bias.fill_(-0.5)  # each unit is on in fewer than all cases, though a sum of two may be near 1
            assert objective.observe(model, rng())["units/always_on"] == 0
            small.hidden_units.bias.fill_(0.0)
        if layer == 0:
            portrait = objective.portrait(model, {"train": inputs, "test": inputs}, rng())
            pictures = {"samples": objective.snapshot(model, rng())["samples"]} | {
                name: values for name, values in portrait.items() if name in ("samples", "chains", "reconstructions")
            }
            assert len(pictures) == 3
            assert all(values.min() >= 0 and values.max() <= 1 for values in pictures.values())
            assert portrait["reconstructions"][:, 1].max() > 0.4


def test_recognition_weights_are_tied_again():
    model = MODELS["network"]()
    model.untie()
    LayerwiseContrastiveDivergence(layer=0).prepare(model, batch().inputs, rng())
    assert model.tied


def test_pictures_are_those_of_a_layer_that_sees_examples():
    model = MODELS["network"]()
    for layer, shown in ((0, True), (1, False)):
        objective = LayerwiseContrastiveDivergence(layer=layer)
        objective.prepare(model, batch().inputs, rng())
        splits = {"test": batch().inputs, "train": batch().inputs}
        with torch.inference_mode():
            assert bool(objective.snapshot(model, rng())) is shown
            assert bool(objective.portrait(model, splits, rng())) is shown


@pytest.mark.parametrize("layer", [-1, 1.0, True])
def test_a_layer_is_a_whole_number(layer):
    build = LayerwiseContrastiveDivergence.__init__
    objective = LayerwiseContrastiveDivergence.__new__(LayerwiseContrastiveDivergence)
    with pytest.raises(InvalidOption, match="layer="):
        getattr(build, "__wrapped__", build)(objective, layer=layer)


def test_what_does_not_fit_is_refused():
    model = MODELS["network"]()
    with pytest.raises(InvalidOption, match="expected 0 to 2"):
        LayerwiseContrastiveDivergence(layer=3).prepare(model, batch().inputs, rng())
    with pytest.raises(InvalidModel, match="got Linear; expected a model with a stack"):
        LayerwiseContrastiveDivergence().prepare(torch.nn.Linear(6, 2), batch().inputs, rng())
    with pytest.raises(InvalidData, match="expected numbers from 0 to 1"):
        LayerwiseContrastiveDivergence().prepare(model, batch().inputs - 2.0, rng())
    with pytest.raises(InvalidOption, match="steps=0"):
        LayerwiseContrastiveDivergence(steps=0)


def test_options_reach_it_through_a_recipe(tmp_path):
    recipe = Recipe(
        model="deep-belief-classifier",
        model_options={"hidden": (6, 5)},
        objective="layerwise-contrastive-divergence",
        objective_options={"layer": 1, "persistent": True, "sparsity": 0.2},
        pretraining=(),
        epochs=1,
        probe_budget=0.0,
    )
    run = fit(recipe, tmp_path / "run", quiet=True)
    assert {"units/dead", "chains/mixing"} <= run.history[-1].keys()
    assert run.parts().model.output.out_features == 10  # a folder of a stage can be opened though its objective has no outputs
    with pytest.raises(InvalidOption, match="refuses its options"):
        fit(recipe.replace(objective_options={"layr": 1}), tmp_path / "typo", quiet=True)

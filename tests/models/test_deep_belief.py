"""Deep belief networks against enumeration of all their states."""

import pytest
import torch
from torch.nn import functional as F

from deepforward.engine import Recipe, Run, fit
from deepforward.errors import InvalidData, InvalidOption, ShapeError, TooLarge
from deepforward.metrics.likelihood import best_log_partition
from deepforward.models.energy import RBM, DeepBeliefClassifier, DeepBeliefNetwork
from deepforward.models.energy.enumeration import all_states
from deepforward.models.energy.stack import layer_sizes
from tests.models.digits_examples import independent_units

SHAPES = [(4, (3, 2)), (3, (3, 2, 3)), (2, (2, 2, 1, 2)), (4, (3,))]


def network(visible, hidden, seed=0, scale=1.0, learn=False, **options):
    """A network of random weights, biases and recognition weights, in float64."""
    rng = torch.Generator().manual_seed(seed)
    model = DeepBeliefNetwork((visible,), hidden=hidden, **options).double().requires_grad_(learn)
    model.untie()
    with torch.no_grad():
        for values in model.parameters():
            values.copy_(torch.randn(values.shape, generator=rng, dtype=torch.float64) * scale)
    return model


def states(units):
    return torch.cat(list(all_states(units, like=torch.zeros((), dtype=torch.float64))))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def joint(model):
    """log p of all joint states (v, h1, ..., hL), and these, written down factor by factor."""
    sizes = [model.stack[0].visible_units.size, *(m.hidden_units.size for m in model.stack)]
    layers = states(sum(sizes)).split(sizes, 1)
    top = model.stack[-1]
    pairs = states(sizes[-2] + sizes[-1]).split(sizes[-2:], 1)
    log_p = -top.energy(layers[-2:]) - (-top.energy(pairs)).logsumexp(0)
    for machine, below, above in zip(model.stack[:-1], layers, layers[1:], strict=False):
        p = (above @ machine.weight.t() + machine.visible_units.bias).sigmoid()
        log_p = log_p + (below * p.log() + (1 - below) * (1 - p).log()).sum(1)
    return log_p, layers


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_probabilities_are_those_of_all_joint_states(shape, seed):
    model = network(*shape, seed=seed)
    log_p, layers = joint(model)
    visible = states(shape[0])
    slow = torch.stack([log_p[(layers[0] == v).all(1)].logsumexp(0) for v in visible])
    assert torch.allclose(model.exact_log_probability(visible), slow, atol=1e-10, rtol=0)
    assert float(slow.exp().sum()) == pytest.approx(1.0, abs=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_the_bound_is_never_above_the_probability(shape, tied, scale):
    visible, loosest = states(shape[0]), 0.0
    for seed in range(4):
        model = network(*shape, seed=seed, scale=scale)
        model.tied.fill_(tied)
        exact = model.exact_log_probability(visible) + model.log_partition()
        gap = exact - model.exact_bound(visible)
        assert gap.min() >= -1e-10
        assert torch.equal(model.log_unnormalised(visible, rng()), model.exact_bound(visible))
        loosest = max(loosest, float(gap.max()))
    assert loosest > 1e-3 or len(shape[1]) == 1


def test_the_estimate_of_the_bound_is_unbiased():
    model = network(4, (6, 5, 3), scale=0.7, bound_samples=20_000)
    visible = states(4)[[3, 9, 14]]
    estimate = model.log_unnormalised(visible, rng())
    assert model.log_unnormalised(visible, rng(1)).ne(estimate).all()  # 11 units: drawn, not summed
    spread = network(4, (6, 5, 3), scale=0.7, bound_samples=1)
    draws = spread.log_unnormalised(visible.repeat(2000, 1), rng(2)).reshape(2000, 3)
    error = draws.std(0) / 20_000**0.5
    assert ((estimate - model.exact_bound(visible)).abs() < 4 * error).all()  # 4 sigma: 2e-4 for the three


@pytest.mark.parametrize("shape", [(4, (3,)), (4, (3, 2)), (3, (3, 3))])
def test_a_mirrored_layer_leaves_the_bound_unchanged(shape):
    """Hinton, Osindero, Teh 2006, section 4: adding it costs nothing, and training it can only raise the bound."""
    visible, hidden = shape
    lower = network(visible, hidden)
    below = (visible, *hidden)[-2]
    taller = network(visible, (*hidden, below), seed=5)
    for small, tall in zip(lower.stack, taller.stack, strict=False):
        tall.load_state_dict(small.state_dict())
    taller.mirror(len(hidden))
    lower.tie()
    taller.tie()
    v = states(visible)
    before = lower.exact_bound(v) - lower.log_partition()
    assert torch.allclose(taller.exact_bound(v) - taller.log_partition(), before, atol=1e-10, rtol=0)
    with torch.no_grad():
        taller.stack[-1].weight[0, 0] += 0.1
    assert not torch.allclose(taller.exact_bound(v) - taller.log_partition(), before, atol=1e-6, rtol=0)


def test_a_layer_of_other_sizes_cannot_be_mirrored():
    model = DeepBeliefNetwork((4,), hidden=(3, 2))
    with pytest.raises(InvalidOption, match="upside down"):
        model.mirror(1)
    with pytest.raises(InvalidOption, match="expected 1 to 1"):
        model.mirror(0)


def test_recognition_follows_the_stack_until_it_is_untied():
    model = DeepBeliefNetwork((6,), hidden=(5, 4, 3), weight_scale=0.5)
    inputs = torch.rand(7, 6, generator=rng())
    values = inputs
    for machine in model.stack:
        values = machine(values)
    assert torch.allclose(model(inputs), values, atol=1e-6)
    with torch.no_grad():
        model.stack[0].weight += 1.0
    moved = model(inputs)
    assert not torch.allclose(moved, values)
    model.untie()
    assert torch.equal(model(inputs), moved)
    with torch.no_grad():
        model.stack[0].weight -= 2.0
    model.untie()  # once: what fine-tuning has made of the recognition weights stays
    assert torch.equal(model(inputs), moved)
    model.tie()
    assert not torch.allclose(model(inputs), moved)


def test_draws_upwards_and_downwards_have_their_conditional_means():
    model = network(4, (3, 3, 2), scale=0.8)
    visible = states(4)[5].repeat(20_000, 1)
    recognised = model.recognise(visible, rng())
    inputs = visible @ model.recognition[0].weight + model.recognition[0].bias
    assert torch.equal(recognised[0], visible)
    assert (recognised[1].mean(0) - inputs.sigmoid().mean(0)).abs().max() < 4.5 * 0.5 / 20_000**0.5
    top = states(3)[3].repeat(20_000, 1)
    generated = model.generate(top, rng())
    p = (top @ model.stack[1].weight.t() + model.stack[1].visible_units.bias).sigmoid()
    assert torch.equal(generated[-1], top)
    assert (generated[1].mean(0) - p.mean(0)).abs().max() < 4.5 * 0.5 / 20_000**0.5
    means = model.generate(top, rng(), means=True)
    assert torch.equal(means[1], generated[1])
    slow = (means[1] @ model.stack[0].weight.t() + model.stack[0].visible_units.bias).sigmoid()
    assert torch.allclose(means[0], slow, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, (2, 3, 2)), (3, (2,))])
def test_samples_are_distributed_as_enumeration_says(shape):
    model = network(*shape, scale=0.8)
    visible = states(3)
    p = model.exact_log_probability(visible).exp()
    drawn = model.sample(20_000, rng(3), steps=50)
    share = torch.stack([(drawn == v).all(1).double().mean() for v in visible])
    chi_square = 20_000 * ((share - p).square() / p).sum()
    assert chi_square < 24.3  # 7 degrees of freedom: exceeded once in a thousand


def test_annealing_is_that_of_the_top_machine():
    model = network(4, (6, 5), scale=0.7)
    assert model.log_partition() == model.top.log_partition()
    found = best_log_partition(model, rng())
    assert (found.log_partition, found.chains) == (model.log_partition(), 0)
    values = model.annealing_start(10, rng())
    assert values.shape == (10, 6)
    for one, other in zip(model.anneal(values, 0.2, 0.4, rng()), model.top.anneal(values, 0.2, 0.4, rng()), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(model.log_base_partition(), model.top.log_base_partition())


def test_preparation_sets_what_is_not_learnt():
    model = DeepBeliefNetwork((4,), hidden=(3, 2), weight_scale=0.5)
    data = torch.rand(50, 4, generator=rng()).round()
    model.prepare(data)
    assert torch.allclose(model.stack[0].visible_units.bias.sigmoid(), (data.sum(0) + 1) / 52)
    assert not model.stack[1].visible_units.bias.any()  # its own training will set it
    means = (model.stack[0](data).sum(0) + 1) / 52
    assert torch.allclose(model.stack[1].visible_units.base.sigmoid(), means, atol=1e-5)


# Training through the engine.

RECIPE = Recipe(
    model="deep-belief-network",
    model_options={"hidden": (16, 10)},
    data="digits",
    objective_options={"ais_chains": 10},
    epochs=4,
    batch_size=40,
    learning_rate=0.5,
    probe_budget=0.0,
)


@pytest.mark.parametrize("model", ["deep-belief-network", "deep-boltzmann-machine", "deep-belief-classifier"])
def test_stages_take_layers_epochs_and_kind_of_data_from_the_recipe(model):
    classifies = model == "deep-belief-classifier"
    options = {} if classifies else {"binarize": "threshold", "ais_chains": 7, "ais_temperatures": 30}
    options |= {"centre": False} if model == "deep-boltzmann-machine" else {}
    recipe = Recipe(model=model, model_options={"hidden": [6, 5, 4]}, epochs=9, objective_options=options).complete()
    assert [stage["objective_options"]["layer"] for stage in recipe.pretraining] == [0, 1, 2]
    assert {stage["epochs"] for stage in recipe.pretraining} == {3 if classifies else 9}
    kinds = [stage["objective_options"].get("binarize", "stochastic") for stage in recipe.pretraining]
    assert kinds == ["stochastic" if classifies else "threshold", "stochastic", "stochastic"]
    chains = [stage["objective_options"]["ais_chains"] for stage in recipe.pretraining]
    assert chains == [0, 0, 7 if model == "deep-belief-network" else 0]
    temperatures = recipe.pretraining[-1]["objective_options"].get("ais_temperatures")
    assert temperatures == (30 if model == "deep-belief-network" else None)
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_fine_tuning_beats_greedy_training_and_that_beats_independent_units(tmp_path):
    """Measured: -24.8, -25.4 and -27.0 nats."""
    recipe = RECIPE.complete()
    steeper = tuple(
        {**stage, "learning_rate": 0.8, "objective_options": {**stage["objective_options"], "ais_chains": 10}}
        for stage in recipe.pretraining
    )
    run = fit(recipe.replace(pretraining=steeper), tmp_path / "run", quiet=True)
    greedy = Run.open(tmp_path / "run" / "pretraining-2").metrics["test/log_likelihood_bound"]
    assert run.metrics["test/log_likelihood_bound"] > greedy + 0.1
    assert greedy > independent_units(run.data) + 1.0


def test_a_pretrained_classifier_learns(tmp_path):
    recipe = Recipe(
        model="deep-belief-classifier",
        model_options={"hidden": (40, 30)},
        data="digits",
        epochs=8,
        batch_size=20,
        learning_rate=0.01,
        probe_budget=0.0,
    )
    run = fit(recipe, tmp_path / "run", quiet=True)
    assert run.metrics["test/accuracy"] > 0.85
    stages = [tmp_path / "run" / f"pretraining-{k}" for k in (1, 2, 3)]
    assert [stage.exists() for stage in stages] == [True, True, False]


def test_the_classifier_is_the_unrolled_network():
    model = DeepBeliefClassifier((2, 3), 4, hidden=(5, 3)).eval()
    inputs = torch.rand(7, 2, 3, generator=rng())
    values = inputs
    for machine in model.stack:
        values = machine(values)
    assert torch.allclose(model.features(inputs), values, atol=1e-6)
    assert torch.allclose(model(inputs), F.linear(values, model.output.weight, model.output.bias), atol=1e-6)


def test_dropout_acts_in_training_only():
    model = DeepBeliefClassifier((6,), 4, hidden=(5, 3), dropout=0.5, input_dropout=0.2)
    inputs = torch.rand(7, 6, generator=rng())
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))


# Bad input.


@pytest.mark.parametrize(
    "model", [lambda h: DeepBeliefNetwork((4,), hidden=h), lambda h: DeepBeliefClassifier((4,), 2, hidden=h)]
)
@pytest.mark.parametrize("hidden", [(), (0,), (3, -1)])
def test_hidden_layers_must_be_whole_numbers(model, hidden):
    with pytest.raises(InvalidOption, match="hidden="):
        model(hidden)


@pytest.mark.parametrize("hidden", [5, "55", (5, 2.5), (5, True), None])
def test_sizes_of_layers_must_be_a_list_of_whole_numbers(hidden):
    with pytest.raises(InvalidOption, match="got hidden="):
        layer_sizes("deep belief network", hidden, 1)


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1])
def test_data_outside_the_units_range_are_refused(value):
    model = DeepBeliefNetwork((4,), hidden=(3, 2))
    visible = torch.full((3, 4), 0.5)
    visible[1, 2] = value
    with pytest.raises(InvalidData, match="example 1, unit 2"):
        model.check(visible)


@pytest.mark.parametrize("options", [{"dropout": 1.0}, {"dropout": float("nan")}, {"input_dropout": -0.1}])
def test_shares_left_out_are_checked(options):
    with pytest.raises(InvalidOption, match="expected a share"):
        DeepBeliefClassifier((4,), 2, **options)


def test_wrong_shapes_too_many_states_and_no_samples_are_refused():
    with pytest.raises(ShapeError, match=r"got inputs of shape \(2, 5\)"):
        DeepBeliefNetwork((4,), hidden=(3, 2))(torch.zeros(2, 5))
    with pytest.raises(ShapeError, match=r"got inputs of shape \(2, 5\)"):
        DeepBeliefClassifier((4,), 2, hidden=(3, 2))(torch.zeros(2, 5))
    model = DeepBeliefNetwork((4,), hidden=(30, 30))
    for enumerate_all in (model.exact_bound, model.exact_log_probability):
        with pytest.raises(TooLarge, match="30 binary units"):
            enumerate_all(torch.zeros(1, 4))
    with pytest.raises(InvalidOption, match="bound_samples=0"):
        DeepBeliefNetwork((4,), bound_samples=0)


def test_one_hidden_layer_is_a_restricted_boltzmann_machine():
    model, rbm = network(4, (3,)), RBM((4,), hidden=3).double().requires_grad_(False)
    rbm.load_state_dict(model.stack[0].state_dict())
    visible = states(4)
    assert torch.equal(model.log_unnormalised(visible, rng()), -rbm.free_energy(visible))

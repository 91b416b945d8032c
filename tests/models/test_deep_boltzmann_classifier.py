"""Deep Boltzmann machines as perceptrons, against the mean field that they begin as."""

import pytest
import torch

from deepforward.data.dataset import Batch
from deepforward.engine import Recipe, Run, checkpoint, fit, training
from deepforward.engine.embedding import embed
from deepforward.errors import InvalidModel, InvalidOption, ShapeError
from deepforward.models.energy import DeepBoltzmannClassifier, DeepBoltzmannMachine
from deepforward.objectives import ContrastiveDivergence, CrossEntropy, LayerwiseContrastiveDivergence

HIDDEN = [(5, 3), (5, 4, 3), (4, 5, 3, 2)]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def classifier(hidden=(5, 4, 3), seed=0, scale=0.5, **options):
    """A classifier whose machine has weights and biases that matter."""
    model = DeepBoltzmannClassifier((2, 3), 4, hidden=hidden, **options)
    with torch.no_grad():
        for values in model.machine.parameters():
            values.copy_(torch.randn(values.shape, generator=rng(seed)) * scale)
    return model


def examples(rows=7, seed=9):
    return torch.rand(rows, 2, 3, generator=rng(seed))


def batch(rows=20):
    return Batch(examples(rows), torch.arange(rows) % 4)


def parts(model):
    """(parameters of the machine, those of the perceptron), by name."""
    named = dict(model.named_parameters())
    return tuple({n: p for n, p in named.items() if n.startswith("machine.") is own} for own in (True, False))


# What it begins as.


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("train", [False, True])
def test_hidden_layers_begin_at_the_fixed_point_of_the_mean_field(hidden, train):
    """All of them: each is one sweep from means that stand still. 1e-5 is far above the rounding of sums of six values."""
    model = classifier(hidden).train(train)
    model.machine.mean_field_steps, model.machine.mean_field_tolerance = 2000, 0.0
    state, residual = model.machine.mean_field(examples().flatten(1))
    assert residual < 1e-6
    for values, means in zip(model.hidden_layers(examples()), state[1:], strict=True):
        assert (values - means).abs().max() < 1e-5
    upward = torch.sigmoid(examples().flatten(1) @ model.machine.weights[0] + model.machine.layers[1].bias)
    assert (upward - state[1]).abs().max() > 1e-2  # what comes from above matters


@pytest.mark.parametrize("hidden", HIDDEN)
def test_the_forward_pass_is_the_formula_with_weights_of_its_own(hidden):
    model = classifier(hidden)
    model(examples())
    with torch.no_grad():
        for values in parts(model)[1].values():
            values.add_(torch.randn(values.shape, generator=rng(1)) * 0.3)
    v = examples().flatten(1)
    q = model.machine.mean_field(v)[0]
    h = v
    for k, layer in enumerate(model.layers):
        above = q[k + 2] @ model.feedback[k].weight.t() if k + 2 < len(q) else 0.0
        h = torch.sigmoid(layer.bias + h @ layer.weight.t() + above)
    logits = model(examples())
    assert logits.shape == (7, 4)
    assert torch.allclose(logits, h @ model.output.weight.t() + model.output.bias, atol=1e-5)


def test_the_perceptron_follows_the_machine_until_its_first_pass_of_training():
    model = classifier().eval()

    def moves_with_the_machine():
        before = model(examples())
        with torch.no_grad():
            model.machine.weights[0] += 0.5
        weight = model.layers[0].weight.detach().clone()
        after = model(examples())
        with torch.no_grad():
            model.machine.weights[0] -= 0.5
        assert not torch.equal(before, after)  # the means from above move in any case
        return not torch.equal(weight, model.layers[0].weight)

    assert moves_with_the_machine()
    with torch.no_grad():
        model.train()(examples())  # looked at, not trained
    assert not model.begun
    model.eval()
    assert moves_with_the_machine()
    assert not model.begun  # gradients of what is not in training
    model.train()(examples())
    assert model.begun
    assert not moves_with_the_machine()
    again = classifier(seed=3).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(examples()), model.eval()(examples()))
    model.begin_layer(0)
    assert moves_with_the_machine()


def test_gradients_reach_every_parameter_of_the_perceptron_and_none_of_the_machine():
    model = classifier()
    (signal,) = CrossEntropy().signals(model, batch(), rng())
    signal.loss.backward()
    machine, perceptron = parts(model)
    assert all(p.grad is None for p in machine.values())
    assert [name for name, p in perceptron.items() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert {name for name in perceptron if name.startswith("feedback")} == {"feedback.0.weight", "feedback.1.weight"}


def test_dropout_acts_in_training_only():
    for options in ({"dropout": 0.5}, {"input_dropout": 0.5}):
        model = classifier(**options)
        assert not torch.equal(model(examples()), model(examples()))
        model.eval()
        assert torch.equal(model(examples()), model(examples()))


def test_rounded_products_are_close_to_exact_ones():
    model = classifier()
    exact = model(examples())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(examples())
    assert (rounded.float() - exact).abs().max() < 0.03  # some roundings of 2^-9 of numbers of the order of 1


# Pretraining.


@pytest.mark.parametrize("objective", [ContrastiveDivergence(persistent=True, ais_chains=0), LayerwiseContrastiveDivergence(1)])
def test_a_stage_trains_the_machine_as_if_it_were_alone(objective):
    model = classifier()
    alone = DeepBoltzmannMachine((2, 3), hidden=(5, 4, 3))
    alone.load_state_dict(model.machine.state_dict())
    found = []
    for trained in (model, alone):
        objective.prepare(trained, batch().inputs, rng())
        (signal,) = objective.signals(trained, batch(), rng(1))
        signal.loss.backward()
        found.append({name: p.grad for name, p in trained.named_parameters() if p.grad is not None})
    assert found[1]
    assert found[0].keys() == {f"machine.{name}" for name in found[1]}
    assert all(torch.equal(found[0][f"machine.{name}"], gradient) for name, gradient in found[1].items())
    assert objective.observe(model, rng()) == objective.observe(alone, rng())


RECIPE = Recipe(
    model="deep-boltzmann-classifier",
    model_options={"hidden": (40, 30)},
    data="digits",
    epochs=5,
    batch_size=40,
    learning_rate=0.03,
    probe_budget=0.0,
)
TINY = RECIPE.replace(model_options={"hidden": (8, 6)}, epochs=1, batch_size=320)


def tensors(folder, name="newest"):
    return checkpoint.load(folder / "checkpoints", name)[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fit(TINY, tmp_path_factory.mktemp("classifier") / "run", quiet=True)


def test_one_stage_trains_all_layers_jointly():
    recipe = RECIPE.replace(model_options={"hidden": [6, 5, 4]}, epochs=9).complete()
    (joint,) = recipe.pretraining
    assert (joint["objective"], joint["epochs"]) == ("contrastive-divergence", 9)
    assert joint["objective_options"]["persistent"]
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_it_learns_from_pretraining_on(tmp_path):
    """Accuracy measured: 0.95, first loss 1.7; without pretraining 0.64 to 0.72 and 2.2 to 2.3."""
    (joint,) = RECIPE.complete().pretraining
    run = fit(RECIPE.replace(pretraining=({**joint, "learning_rate": 1.0, "epochs": 20},)), tmp_path / "run", quiet=True)
    assert run.metrics["test/accuracy"] > 0.85
    assert run.history[0]["train/loss"] < 1.8
    before, after = tensors(tmp_path / "run" / "pretraining-1", "best"), tensors(tmp_path / "run", "best")
    assert [bool(held["model/begun"]) for held in (before, after)] == [False, True]
    machine = [name for name in before if name.startswith("model/machine.")]
    assert all(torch.equal(before[name], after[name]) for name in machine)
    inputs = torch.rand(5, 1, 8, 8, generator=rng())
    loaded = Run.open(run.folder).model().eval()
    assert torch.equal(loaded.layers[0].weight, after["model/layers.0.weight"])
    assert not torch.equal(loaded.layers[0].weight, loaded.machine.weights[0].t())
    assert loaded(inputs).shape == (5, 10)


def test_features_are_the_last_hidden_layer_and_embed_takes_them(whole):
    split = whole.data.test
    parts = whole.parts()
    found = embed(parts, split)
    assert found.shape == (len(split), 6)
    with torch.no_grad():
        layers = parts.model.hidden_layers(parts.scaling(split.inputs))
    assert torch.allclose(found, layers[-1], atol=1e-5)


def test_fine_tuning_begins_at_the_machine_as_its_last_stage_left_it(tmp_path):
    """A step of Adam at a rate of 1e-9 moves a weight by about as much."""
    run = fit(TINY.replace(learning_rate=1e-9, averaging=0.0), tmp_path / "run", quiet=True)
    tuned, joint = tensors(tmp_path / "run"), tensors(tmp_path / "run" / "pretraining-1", "best")
    for k in range(2):
        assert torch.allclose(tuned[f"model/layers.{k}.weight"], joint[f"model/machine.weights.{k}"].t(), atol=1e-7, rtol=0)
        assert torch.allclose(tuned[f"model/layers.{k}.bias"], joint[f"model/machine.layers.{k + 1}.bias"], atol=1e-7, rtol=0)
    assert torch.allclose(tuned["model/feedback.0.weight"], joint["model/machine.weights.1"], atol=1e-7, rtol=0)
    assert run.model().begun


@pytest.mark.parametrize(
    ("death", "place", "seconds"),
    [(3, "pretraining-1", 0.0), (5, "run", 1e9), (5, "run", 0.0), (7, "run", 0.0)],
    ids=["joint", "first pass lost", "first pass saved", "fine-tuning"],
)
def test_interrupted_and_resumed_gives_the_same_bits(whole, tmp_path, monkeypatch, death, place, seconds):
    """The stage has 4 steps, and so has fine-tuning; a checkpoint is written when `seconds` have passed at a step's end."""
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", seconds)
    original, steps, where = training.Training._train_step, 0, []

    def dying(self, indices):
        nonlocal steps
        steps += 1
        if steps == death + 1:
            where.append(self.run.folder.name)
            raise KeyboardInterrupt
        original(self, indices)

    monkeypatch.setattr(training.Training, "_train_step", dying)
    with pytest.raises(KeyboardInterrupt):
        fit(TINY, tmp_path / "run", quiet=True)
    again = fit(TINY, tmp_path / "run", resume=True, quiet=True)
    assert where == [place]
    for part in ("", "pretraining-1"):
        one, other = tensors(whole.folder / part), tensors(again.folder / part)
        assert one.keys() == other.keys()
        assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert again.metrics == whole.metrics


# Bad input.


@pytest.mark.parametrize("hidden", [(), (5,), (5, 0)])
def test_sizes_of_at_least_two_layers_are_asked_for(hidden):
    with pytest.raises(InvalidOption, match="hidden="):
        DeepBoltzmannClassifier((4,), 2, hidden=hidden)


@pytest.mark.parametrize("name", ["deep-belief-network", "deep-belief-classifier", "deep-boltzmann-machine", RECIPE.model])
@pytest.mark.parametrize("hidden", [500, (), "500", (5, 0)])
def test_stages_of_what_are_no_sizes_of_layers_are_refused_in_one_line(name, hidden):
    with pytest.raises(InvalidOption, match=r"hidden=.*; expected") as caught:
        Recipe(model=name, model_options={"hidden": hidden}).complete()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"dropout": 1.0}, {"dropout": float("nan")}, {"input_dropout": -0.1}])
def test_shares_left_out_are_checked(options):
    with pytest.raises(InvalidOption, match="expected a share"):
        DeepBoltzmannClassifier((4,), 2, **options)


def test_wrong_shapes_and_machines_without_an_energy_are_refused():
    with pytest.raises(ShapeError, match=r"got inputs of shape \(2, 5\)"):
        DeepBoltzmannClassifier((4,), 2, hidden=(3, 2))(torch.zeros(2, 5))
    stranger = torch.nn.Sequential()
    stranger.machine = torch.nn.Linear(6, 2)
    with pytest.raises(InvalidModel, match="got Sequential"):
        ContrastiveDivergence().prepare(stranger, batch().inputs, rng())

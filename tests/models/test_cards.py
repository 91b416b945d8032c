"""Every model card keeps its word; a new card is tested by existing."""

import pytest
import torch

from deepforward import catalogue
from deepforward.engine.building import build_model
from deepforward.errors import InvalidData, ShapeError
from deepforward.models import count_parameters

CARDS = {card.name: card for card in catalogue.cards("models")}


def has_energy(model):
    return hasattr(model, "gap_gradients")


def is_energy_alone(card):
    return card.target.startswith("deepforward.models.energy") and "num_outputs" not in card.details["parameters_at"]


def build(name):
    """The model as the engine builds it: its factory is given what it takes by name. A card without outputs has features."""
    at = CARDS[name].details["parameters_at"]
    shape = tuple(at["input_shape"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(name, {}, shape, at.get("num_outputs", 1)), shape, at.get("num_outputs")


@pytest.mark.parametrize("name", CARDS)
def test_parameter_count_is_that_of_the_card(name):
    model, _, _ = build(name)
    assert count_parameters(model) == CARDS[name].details["parameters"]


@pytest.mark.parametrize("name", [name for name in CARDS if "110" not in name and "56" not in name])
def test_outputs_have_the_shape_and_reach_every_parameter(name):
    model, shape, num_outputs = build(name)
    inputs = torch.rand(3, *shape, generator=torch.Generator().manual_seed(1))
    outputs = model(inputs if has_energy(model) or name == "neocognitron" else inputs * 2 - 1)
    assert outputs.shape[2:] in {(), shape[1:]}  # for the example, or for each of its pixels
    assert outputs.shape[0] == 3
    assert num_outputs is None or outputs.shape[1] == num_outputs
    outputs.square().sum().backward()
    reached = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    if has_energy(model):  # features need no visible bias; the energy does
        rng = torch.Generator().manual_seed(2)
        data = model.clamp((inputs.flatten(1) > 0.5).float(), rng)
        chains = model.expected(model.advance(model.start(4, rng), rng))
        reached |= {key for key, g in model.gap_gradients(data, chains).items() if g.abs().sum() > 0}
    assert reached
    if "pretraining" in CARDS[name].details and not has_energy(model):
        return  # each of its stages moves parameters of its own, and tests of its own see to that
    assert [key for key, p in model.named_parameters() if p.requires_grad and key not in reached] == []


@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if is_energy_alone(card)])
def test_a_model_with_an_energy_refuses_a_wrong_shape_and_data_that_its_units_cannot_take(name):
    model, shape, _ = build(name)
    with pytest.raises(ShapeError, match=rf"expected \(batch, {shape[0]}") as caught:
        model(torch.zeros(2, shape[0] + 1, *shape[1:]))
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidData, match="data: got 2"):
        model.check(model.visible(torch.full((2, *shape), 2.0)))


@pytest.mark.parametrize("name", ["perceptron", "lenet5", "convnet", "lecun1989", "neocognitron", "resnet20", "plain20"])
def test_a_wrong_shape_names_layer_and_expectation(name):
    model, shape, _ = build(name)
    wrong = (shape[0] + 1, *shape[1:])
    with pytest.raises(ShapeError, match=rf"layer '\w+(\.\w+)?' got inputs of shape .*expected \(batch, {shape[0]}") as caught:
        model(torch.zeros(2, *wrong))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["lenet5", "convnet", "lecun1989", "neocognitron", "resnet20", "plain20"])
@pytest.mark.parametrize("shape", [(7,), (1, 3, 3), ()])
def test_image_models_refuse_other_data_when_built(name, shape):
    with pytest.raises(ShapeError, match=f"model '{name}' got examples of shape"):
        CARDS[name].load()(shape, 10)


@pytest.mark.parametrize("name", ["lenet5", "convnet", "resnet20", "plain20"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 8, 13)])
def test_image_models_take_any_size(name, shape):
    assert CARDS[name].load()(shape, 4)(torch.zeros(2, *shape)).shape == (2, 4)


@pytest.mark.parametrize("name", CARDS)
def test_recipe_of_the_card_is_complete(name):
    recipe = CARDS[name].details["recipe"]
    assert {"optimizer", "learning_rate", "schedule", "batch_size", "weight_decay", "epochs"} <= recipe.keys()


@pytest.mark.parametrize("name", ["perceptron", "lenet5", "convnet", "lecun1989", "resnet20", "rbm", "convolutional-rbm"])
def test_the_global_seed_fixes_the_weights(name):
    (first, _, _), (second, _, _) = build(name), build(name)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))

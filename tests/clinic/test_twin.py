import pytest

from deepforward.clinic.illnesses import STACK
from deepforward.clinic.twin import shallower
from deepforward.engine import Recipe


def without_depth(num_outputs):
    raise AssertionError(num_outputs)


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        ("perceptron", {"depth": 56, "width": 16}, ("perceptron", {"depth": 14, "width": 16})),
        ("perceptron", {"depth": 7}, None),
        ("perceptron", {}, None),
        ("plain56", {}, ("plain20", {})),
        ("resnet44", {}, ("resnet20", {})),
        ("plain20", {}, None),
        ("lenet5", {}, None),
        (STACK, {"depth": 16}, (STACK, {"depth": 4})),
        (STACK, {"depth": 7}, None),
        (f"{__file__}:without_depth", {}, None),
    ],
)
def test_the_twin_is_shallower_and_otherwise_the_same(model, options, expected):
    recipe = Recipe(model=model, model_options=options, seed=3, data="rings")
    twin = shallower(recipe)
    assert twin == (None if expected is None else recipe.replace(model=expected[0], model_options=expected[1]))

from dataclasses import fields

import pytest

from deepforward import catalogue
from deepforward.clinic import Evidence, prescribe
from deepforward.data import load
from deepforward.engine import Recipe
from deepforward.errors import NoEffect, UnknownName
from tests.clinic.examples import readings

RECIPE = Recipe(model="perceptron", model_options={"depth": 3, "width": 16}, scaling="none", learning_rate=1e-4, threads=1)
CHANGES = {
    "critical-initialization": {"alterations": ("critical-initialization",)},
    "he-initialization": {"alterations": ("he-initialization",)},
    "batch-normalization": {"alterations": ("batch-normalization",)},
    "residual-connections": {"alterations": ("residual",)},
    "activation-swap": {"alterations": ("activation?name=selu",)},
    "hybrid-dilation": {"alterations": ("hybrid-dilation",)},
    "growing-dilation": {"alterations": ("growing-dilation",)},
    "standardise-data": {"scaling": "standardise"},
    "gradient-clipping": {"clip": None},
    "learning-rate": {"learning_rate": None},
}


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_every_prescription_is_listed_here():
    """Those of machines that learn from their samples are in test_energy_prescriptions.py."""
    assert set(CHANGES) == {card.name for card in catalogue.cards("prescriptions") if "energy_" not in card.target}


@pytest.mark.parametrize("name", CHANGES)
def test_a_prescription_changes_its_own_field_only_and_not_twice(name, digits):
    recipe = RECIPE.replace(learning_rate=1.0) if name == "gradient-clipping" else RECIPE  # where some clipping is needed
    before = recipe.complete()
    after = prescribe([name], recipe, Evidence(), digits)
    (field,) = {f.name for f in fields(Recipe) if getattr(before, f.name) != getattr(after, f.name)}
    ((expected, value),) = CHANGES[name].items()
    assert field == expected
    assert value is None or getattr(after, field) == value
    with pytest.raises(NoEffect):
        prescribe([name], after, Evidence(), digits)


def test_prescriptions_add_up_in_order(digits):
    both = prescribe(["batch-normalization", "residual-connections"], RECIPE, Evidence(), digits)
    assert both.alterations == ("batch-normalization", "residual")


def test_a_network_of_squashing_units_gets_leaky_rectifiers(digits):
    squashing = Evidence(readings=readings([1.0, 1.0], ["Linear", "Tanh"]))
    assert prescribe(["activation-swap"], RECIPE, squashing, digits).alterations == ("activation?name=leaky-relu",)


def test_clipping_that_would_never_act_is_not_prescribed(digits):
    calm = Evidence(history=[{"gradient_norm/max": 1e-9}])
    with pytest.raises(NoEffect, match="no gradient exceeded 1e-09"):
        prescribe(["gradient-clipping"], RECIPE.replace(learning_rate=1.0), calm, digits)


def test_clipping_is_not_prescribed_where_every_step_is_stable(digits):
    with pytest.raises(NoEffect, match="every step of a walk from the start is stable; no clipping is needed"):
        prescribe(["gradient-clipping"], RECIPE, Evidence(), digits)


def test_clipping_is_measured_for_plain_gradient_descent_only(digits):
    with pytest.raises(NoEffect, match="got adam"):
        prescribe(["gradient-clipping"], RECIPE.replace(optimizer="adam"), Evidence(), digits)


@pytest.mark.parametrize("now", [0.0, 0])
def test_a_rate_of_zero_is_replaced_by_the_advised_one(digits, now):
    assert prescribe(["learning-rate"], RECIPE.replace(learning_rate=now), Evidence(), digits).learning_rate > 0


def test_an_unknown_prescription_is_offered_its_neighbours(digits):
    with pytest.raises(UnknownName, match="residual-connections"):
        prescribe(["residual-connection"], RECIPE, Evidence(), digits)

import pytest

from deepforward.engine.recipe import Recipe
from deepforward.errors import InvalidOption, RunMismatch, UnknownName


def test_json_round_trip_is_exact():
    recipe = Recipe(
        model="perceptron", model_options={"depth": 3}, alterations=("residual",), learning_rate=0.1, seed=3
    ).complete()
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_complete_fills_every_open_field_and_keeps_what_was_given():
    recipe = Recipe(model="lecun1989", epochs=3).complete()
    assert recipe.objective == "mse-one-hot"
    assert recipe.epochs == 3
    assert recipe.batch_size == 1
    open_fields = {"clip", "patience", "split_seed"}
    assert {name for name, value in vars(recipe).items() if value is None} == open_fields
    assert recipe.complete() == recipe


def test_another_optimizer_than_the_cards_brings_its_own_rate():
    assert Recipe(model="perceptron", optimizer="adamw").complete().learning_rate == 0.001
    assert Recipe(model="perceptron", optimizer="adamw").complete().optimizer_options == {}


def test_regression_data_brings_the_squared_error():
    assert Recipe(model="perceptron").complete("regression").objective == "squared-error"
    assert Recipe(model="perceptron").complete().objective == "cross-entropy"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", -1),
        ("epochs", 0),
        ("epochs", True),
        ("batch_size", 0),
        ("learning_rate", -0.1),
        ("learning_rate", float("nan")),
        ("learning_rate", "fast"),
        ("validation", 1.0),
        ("probe_budget", 2),
        ("seed", -1),
        ("split_seed", -1),
        ("clip", -1.0),
    ],
)
def test_values_out_of_range_are_refused_in_one_line_that_names_the_field(field, value):
    with pytest.raises(InvalidOption) as caught:
        Recipe(model="perceptron", **{field: value})
    assert str(caught.value).startswith(f"{field} is {value!r}; expected")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["seed", "alterations", "model_options"])
def test_nothing_is_no_value_of_a_field_that_nothing_fills(field, unchecked):
    with unchecked(), pytest.raises(InvalidOption, match=f"^{field} is None; expected a value"):
        Recipe(model="perceptron", **{field: None})


def test_unknown_names_offer_neighbours():
    with pytest.raises(UnknownName, match="did you mean perceptron"):
        Recipe(model="perceptro").complete()
    with pytest.raises(UnknownName, match="did you mean adamw"):
        Recipe(model="perceptron", optimizer="adamww").complete()
    with pytest.raises(UnknownName, match="cross-entropy"):
        Recipe(model="perceptron", objective="crossentropy").complete()
    with pytest.raises(InvalidOption, match="one-cycle"):
        Recipe(model="perceptron", schedule="one_cycle")
    with pytest.raises(InvalidOption, match="no field 'epoch'"):
        Recipe(model="perceptron").replace(epoch=3)


def test_a_damaged_recipe_file_is_a_run_mismatch():
    with pytest.raises(RunMismatch, match="cannot be read"):
        Recipe.from_json('{"model": "perceptron", "colour": 1}')
    with pytest.raises(RunMismatch, match="cannot be read"):
        Recipe.from_json("{")


def test_a_card_without_optimizer_options_means_none_of_them():
    assert Recipe(model="lecun1989").complete().optimizer_options == {}
    assert Recipe(model="lecun1989", optimizer="adam").complete().batch_size == 1


def test_another_optimizer_is_not_given_the_cards_decay():
    assert Recipe(model="perceptron").complete().weight_decay > 0
    assert Recipe(model="perceptron", optimizer="clipped-gd").complete().weight_decay == 0

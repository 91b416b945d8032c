"""The command that a report prints makes the same run."""

import shlex

import pytest
import typer

from deepforward.cli import train
from deepforward.cli.settings import recipe_from
from deepforward.engine import Recipe
from deepforward.engine.command import command_of

QUICK = {"ais_temperatures": 50, "ais_chains": 5}


def read(command):
    """The recipe that the real command line makes of a command, its flags parsed as `train` declares them."""
    program, verb, *words = shlex.split(command)
    assert (program, verb) == ("deepforward", "train")
    app = typer.Typer(add_completion=False)
    app.command()(train.command)
    given = typer.main.get_command(app).make_context("train", list(words)).params
    flags = {name: given[name] for name in ("data", "epochs", "seed", "validation", "precision", "device")}
    return recipe_from(given["model"], given["settings"], **flags)


RECIPES = {
    "the card's own": Recipe(model="perceptron"),
    "fields and options": Recipe(
        model="perceptron",
        model_options={"depth": 3, "activation": "tanh"},
        alterations=("residual", "activation-swap?to=relu"),
        epochs=2,
        learning_rate="find",
        clip=0.1,
        patience=3,
        schedule="step",
        schedule_options={"every": 2},
        precision="fp32",
        validation=0.2,
        split_seed=4,
        seed=7,
    ),
    "another objective": Recipe(model="perceptron", objective="mse-one-hot"),
    "another objective of an energy": Recipe(model="rbm", objective="exact-likelihood", model_options={"hidden": 4}),
    "some options of the card's objective": Recipe(model="rbm", objective_options=QUICK),
    "another optimiser": Recipe(model="perceptron", optimizer="adamw", weight_decay=0.1),
    "fewer options of the optimiser": Recipe(model="perceptron", optimizer_options={"momentum": 0.5}),
    "derived stages": Recipe(model="deep-belief-network", model_options={"hidden": [16, 12, 8]}, epochs=6),
    "stages of its own": Recipe(model="perceptron", pretraining=({"epochs": 1, "schedule": "constant"},)),
    "no stages": Recipe(model="deep-belief-network", pretraining=()),
    "text like a number": Recipe(model="own.py:net", model_options={"kind": "3", "side": 3, "note": "a b", "none": None}),
    "options named like fields": Recipe(model="own.py:net", model_options={"seed": 3, "epochs": "two"}, seed=1),
    "a source with options": Recipe(model="perceptron", data="rings?noise=0.05&train=90"),
}


@pytest.mark.parametrize("given", RECIPES.values(), ids=RECIPES.keys())
def test_it_is_read_as_the_recipe_it_was_made_of(given):
    recipe = given.complete()
    again = read(command_of(recipe)).complete()
    assert again.differences(recipe) == []


def test_regression_needs_no_objective():
    recipe = Recipe(model="perceptron", data="line").complete("regression")
    command = command_of(recipe, "regression")
    assert "--set" not in command
    assert read(command).complete("regression") == recipe


def test_it_names_what_is_unusual_and_no_more():
    stacked = Recipe(model="deep-belief-network", model_options={"hidden": [16, 12]}, epochs=6).complete()
    assert command_of(stacked) == (
        "deepforward train deep-belief-network --data digits --epochs 6 --seed 0 --set 'hidden=[16, 12]'"
    )
    named = Recipe(model="rbm", epochs=2, objective_options={"steps": 3}).complete()
    assert command_of(named) == "deepforward train rbm --data digits --epochs 2 --seed 0 --set objective.steps=3"
    other = Recipe(model="perceptron", epochs=2, objective="mse-one-hot").complete()
    assert command_of(other) == "deepforward train perceptron --data digits --epochs 2 --seed 0 --set objective=mse-one-hot"


def test_what_no_command_says_has_none():
    card = Recipe(model="perceptron").complete()
    assert card.optimizer_options
    assert command_of(card.replace(optimizer_options={})) == ""

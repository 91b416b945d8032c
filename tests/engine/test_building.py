"""A model is built alike wherever it is built."""

import pytest

from deepforward.clinic import diagnose
from deepforward.engine import Recipe, fit
from deepforward.engine.building import build_model
from deepforward.errors import InvalidOption, first_line

OWN = (
    "from deepforward.models.energy import RBM\n"
    "def machine(input_shape, num_outputs, size=4): return RBM(input_shape, hidden=num_outputs + size)\n"
)


def test_a_factory_is_given_what_it_takes_by_name(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    assert build_model(f"{tmp_path}/own.py:machine", {"size": 5}, (6,), 2).weight.shape == (6, 7)
    with pytest.raises(
        InvalidOption, match=r"unexpected keyword argument 'side'; it takes \(input_shape, num_outputs, size=4\)"
    ):
        build_model(f"{tmp_path}/own.py:machine", {"side": 5}, (6,), 2)


def test_a_machine_that_asks_for_outputs_is_trained_and_diagnosed(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    recipe = Recipe(
        model=f"{tmp_path}/own.py:machine",
        objective="contrastive-divergence",
        objective_options={"ais_chains": 0},
        scaling="min-max",
        epochs=1,
    )
    run = fit(recipe, tmp_path / "run", quiet=True)
    assert run.model().weight.shape == (64, 14)
    assert diagnose(run).evidence.chance is not None


def test_an_error_is_quoted_by_its_first_line():
    assert first_line(ValueError("two\nlines")) == "two"
    assert first_line(KeyError()) == "KeyError"

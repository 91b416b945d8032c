"""What every model with an energy, or built on one, gives the parts that know it by its card alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from deepforward import catalogue
from deepforward.engine import Recipe, fit
from deepforward.report.measures import UNITS, measures

FAMILY = [card for card in catalogue.cards("models") if card.target.startswith("deepforward.models.energy:")]
#: Options that make a model small, and the number of features that it has then.
SMALL = {
    "rbm": ({"hidden": 5}, 5),
    "boltzmann-machine": ({"hidden": 5}, 5),
    "convolutional-rbm": ({"maps": 2}, 2 * 4 * 4),
}
STACK = ({"hidden": [6, 5]}, 5)
#: Whose likelihood is not counted but annealed, which takes a while.
LARGE = ("boltzmann-machine", "convolutional-rbm")


@pytest.mark.parametrize("card", FAMILY, ids=lambda card: card.name)
def test_a_run_embeds_its_examples_and_its_metrics_are_known(card: catalogue.Card, tmp_path: Path) -> None:
    """Features are one tensor with a row for each example; the report knows the unit of whatever is measured."""
    options, columns = SMALL.get(card.name, STACK)
    own: dict[str, Any] = {"objective_options": {"ais_chains": 0}} if card.name in LARGE else {}
    recipe = Recipe(model=card.name, model_options=options, data="digits", epochs=1, batch_size=1000, **own)
    run = fit(recipe, tmp_path / "run", quiet=True)

    features, targets = run.embed("test")
    assert features.dtype == torch.float32
    assert features.shape == (len(targets), columns) == (len(run.data.test), columns)
    assert 0 <= features.min() < features.max() <= 1

    told = {measure.quantity for measure in measures(run.metrics)}
    assert len(told) > 1
    assert told - {"loss", "accuracy"} <= set(UNITS)

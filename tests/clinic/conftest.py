"""The data set of energy_examples.RECIPE."""

import pytest

from deepforward.data import load
from tests.clinic.energy_examples import RECIPE


@pytest.fixture(scope="module")
def bars():
    return load(RECIPE.data)

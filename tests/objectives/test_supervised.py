"""Regression to images goes through the same objective as regression to values."""

import pytest
import torch
from torch import nn

from deepforward.data import Batch, Dataset, Split
from deepforward.engine import Recipe, fit
from deepforward.errors import ShapeError
from deepforward.objectives.supervised import SquaredError


def test_an_image_s_error_is_the_mean_over_its_pixels():
    rng = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(2, 3, 2, 4, 5, generator=rng)
    errors = SquaredError().errors(outputs, targets)
    for error, output, target in zip(errors, outputs, targets, strict=True):
        assert error.item() == pytest.approx((output - target).double().square().mean().item(), rel=1e-6)  # float32
    values = SquaredError().errors(outputs[:, 0, 0, :1], targets[:, 0, 0, 0])
    assert torch.equal(values, (outputs[:, 0, 0, 0] - targets[:, 0, 0, 0]).square())


def test_shapes_that_differ_are_named():
    with pytest.raises(ShapeError, match=r"outputs of shape \(2, 1, 4, 4\); regression expects \(2, 3, 4, 4\)"):
        next(
            iter(
                SquaredError().signals(
                    nn.Identity(), Batch(torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, 4, 4)), torch.Generator()
                )
            )
        )


def test_a_network_learns_to_blur(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def filter(input_shape, num_outputs): return nn.Conv2d(input_shape[0], num_outputs, 3, padding=1, bias=False)\n"
    )
    inputs = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    split = Split(inputs, nn.functional.avg_pool2d(inputs, 3, 1, 1))
    recipe = Recipe(model=f"{tmp_path}/mine.py:filter", epochs=60, batch_size=16, learning_rate=0.5, scaling="none")
    run = fit(recipe, tmp_path / "run", data=Dataset("blurred", split, split, ()), quiet=True)
    assert run.recipe.objective == "squared-error"
    assert torch.allclose(run.model().weight.detach(), torch.full((1, 1, 3, 3), 1 / 9), atol=1e-3)  # least squares are exact
    assert run.report().is_file()

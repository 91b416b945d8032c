"""A class for each pixel: the loss of a loop over the pixels, scores of whole splits, and a run from recipe to report."""

import math

import pytest
import torch
from torch import nn

from deepforward.data import Batch, Dataset, Split
from deepforward.engine import Recipe, fit
from deepforward.errors import InvalidOption, ShapeError
from deepforward.metrics.segmentation import confusion_of, mean_iou
from deepforward.objectives.dense import PixelCrossEntropy


def batch(n=3, height=4, width=5, classes=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (n, height, width), generator=rng)
    targets[:, 0, 0] = 255
    return Batch(torch.randn(n, classes, height, width, generator=rng), targets)


def test_loss_is_that_of_a_loop_over_the_pixels():
    given = batch()
    (signal,) = PixelCrossEntropy().signals(nn.Identity(), given, torch.Generator())
    terms, right = [], 0
    for logits, mask in zip(given.inputs.double(), given.targets, strict=True):
        for row in range(4):
            for column in range(5):
                if mask[row, column] != 255:
                    terms.append(-logits[:, row, column].log_softmax(0)[mask[row, column]].item())
                    right += int(logits[:, row, column].argmax() == mask[row, column])
    assert signal.loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-6)  # float32
    assert signal.log["pixel_accuracy"].item() == pytest.approx(right / len(terms))


def test_a_split_is_scored_as_a_whole():
    objective, parts = PixelCrossEntropy(), [batch(seed=1), batch(2, seed=2)]
    scores = [objective.score(nn.Identity(), part, torch.Generator()) for part in parts]
    summed = {name: scores[0][name].double() + scores[1][name].double() for name in scores[0]}
    found = objective.summarise(summed, 5)
    predicted, targets = (torch.cat(values) for values in zip(*[(p.inputs.argmax(1), p.targets) for p in parts], strict=True))
    assert found["mean_iou"] == pytest.approx(mean_iou(confusion_of(predicted, targets, 3)))
    assert found["pixel_accuracy"] == pytest.approx((predicted == targets)[targets != 255].double().mean().item())
    logits = torch.cat([p.inputs for p in parts])
    expected = nn.functional.cross_entropy(logits, targets, ignore_index=255).item()
    assert found["loss"] == pytest.approx(expected, rel=1e-6)


def test_nothing_is_learnt_from_ignored_pixels():
    given = batch()
    inputs = given.inputs.requires_grad_()
    (signal,) = PixelCrossEntropy().signals(
        nn.Identity(), Batch(inputs, torch.full_like(given.targets, 255)), torch.Generator()
    )
    signal.loss.backward()
    assert signal.loss.item() == 0
    assert not inputs.grad.any()


def test_what_is_not_finite_shows_in_the_loss():
    given = batch()
    given.inputs[1, 2, 3, 3] = math.nan
    scores = PixelCrossEntropy().score(nn.Identity(), given, torch.Generator())
    assert math.isnan(PixelCrossEntropy().summarise(scores, 3)["loss"])


def test_outputs_of_another_size_are_named():
    given = batch()
    with pytest.raises(
        ShapeError, match=r"outputs of shape \(3, 3, 4, 2\); expected a logit for each class and pixel of masks"
    ):
        PixelCrossEntropy().score(nn.Identity(), Batch(given.inputs[..., :2], given.targets), torch.Generator())


def disc_data(n=24, size=8):
    """Light squares on a dark ground, and where they are."""
    rng = torch.Generator().manual_seed(0)
    corner = torch.randint(size - 3, (n, 2), generator=rng)
    at = torch.arange(size)
    rows = (at >= corner[:, :1]) & (at < corner[:, :1] + 4)
    columns = (at >= corner[:, 1:]) & (at < corner[:, 1:] + 4)
    mask = rows[:, :, None] & columns[:, None]
    inputs = mask[:, None] + 0.1 * torch.randn(n, 1, size, size, generator=rng)
    return Dataset("squares", Split(inputs[:16], mask[:16].byte()), Split(inputs[16:], mask[16:].byte()), ("ground", "square"))


NETWORK = """
from torch import nn
def dense(input_shape, num_outputs, stride=1):
    return nn.Sequential(nn.Conv2d(input_shape[0], 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, num_outputs, 1, stride=stride))
"""


def test_a_stranger_s_network_learns_masks(tmp_path):
    (tmp_path / "mine.py").write_text(NETWORK)
    recipe = Recipe(
        model=f"{tmp_path}/mine.py:dense", epochs=20, batch_size=4, learning_rate=0.1, augmentation=("flip", "shift?pixels=1")
    )
    run = fit(recipe, tmp_path / "run", data=disc_data(), quiet=True)
    assert run.recipe.objective == "pixel-cross-entropy"
    assert run.metrics["test/mean_iou"] > 0.95
    assert run.history[-1]["validation/mean_iou"] > 0.9
    assert run.report().is_file()


def test_masks_and_objective_must_go_together(tmp_path):
    (tmp_path / "mine.py").write_text(NETWORK)
    recipe = Recipe(model=f"{tmp_path}/mine.py:dense", objective="cross-entropy")
    with pytest.raises(InvalidOption, match="'cross-entropy' is not for segmentation, as squares is; use pixel-cross-entropy"):
        fit(recipe, tmp_path / "run", data=disc_data(), quiet=True)
    with pytest.raises(ShapeError, match=r"model gives \(2, 4, 4\) for each example; expected \(2, 8, 8\)"):
        fit(recipe.replace(objective=None, model_options={"stride": 2}), tmp_path / "run", data=disc_data(), quiet=True)

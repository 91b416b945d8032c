"""Scores of an objective against the measures of each page."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deepforward.data import Batch, load
from deepforward.errors import InvalidOption
from deepforward.metrics.binarization import drd, f_measure, psnr
from deepforward.objectives import Binarization
from deepforward.objectives.dense import PixelCrossEntropy


class Given(nn.Module):
    """Logits that are the inputs."""

    def forward(self, inputs):
        return inputs


@pytest.fixture
def batch() -> Batch:
    rng = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (3, 16, 16), generator=rng)
    return Batch(torch.randn(3, 2, 16, 16, generator=rng) + 2 * nn.functional.one_hot(targets).movedim(3, 1), targets)


def metrics(objective, *batches: Batch) -> dict[str, float]:
    rng = torch.Generator()
    scores = [objective.score(Given(), batch, rng) for batch in batches]
    sums = {name: sum(score[name].double() for score in scores) for name in scores[0]}
    return dict(objective.summarise(sums, sum(len(batch.targets) for batch in batches)))


def test_the_measures_are_means_over_pages_whatever_the_batches(batch: Batch) -> None:
    found, truth = batch.inputs.argmax(1) == 1, batch.targets == 1
    told = metrics(Binarization(), batch)
    for name, measure in (("f_measure", f_measure), ("psnr", psnr), ("drd", drd)):
        assert told[name] == pytest.approx(sum(measure(*pair) for pair in zip(found, truth, strict=True)) / 3, rel=1e-12)
    parts = [Batch(batch.inputs[i : i + 1], batch.targets[i : i + 1]) for i in range(3)]
    assert metrics(Binarization(), *parts) == pytest.approx(told, rel=1e-6)  # the loss is summed in float32
    of_pixels = metrics(PixelCrossEntropy(), batch)
    assert {name: told[name] for name in of_pixels} == of_pixels


def test_pixels_that_are_not_known_count_for_paper_that_was_found(batch: Batch) -> None:
    hidden = batch.targets.clone()
    hidden[:, :4] = 255
    found, truth = batch.inputs.argmax(1) == 1, batch.targets == 1
    found[:, :4] = truth[:, :4] = False
    expected = sum(f_measure(*pair) for pair in zip(found, truth, strict=True)) / 3
    assert metrics(Binarization(), Batch(batch.inputs, hidden))["f_measure"] == pytest.approx(expected, rel=1e-12)


def test_more_than_two_classes_are_refused() -> None:
    with pytest.raises(InvalidOption, match="digits has 10 classes; use pixel-cross-entropy"):
        Binarization().output_shape(load("digits"))

"""Dilation that grows from layer to layer."""

import pytest
import torch
from torch import nn

from deepforward.errors import NoEffect
from deepforward.instruments.receptive_field import receptive_fields
from deepforward.layers.alteration import alter


def stack(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


def altered(module: nn.Module, images: torch.Tensor) -> nn.Module:
    return alter(module, images, ["growing-dilation"], torch.Generator())


def test_three_layers_see_15_pixels_with_the_weights_that_saw_7_and_maps_keep_their_size():
    images = torch.rand(2, 1, 20, 20)
    before = stack(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding=1))
    after = altered(before, images)
    assert [layer.dilation for layer in after if isinstance(layer, nn.Conv2d)] == [(1, 1), (2, 2), (4, 4)]
    assert receptive_fields(before, images, ["3"])["3"].size == (7, 7)
    assert receptive_fields(after, images, ["3"])["3"].size == (15, 15)
    assert after(images).shape == before(images).shape
    assert before[2].dilation == (1, 1)
    for own, other in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.equal(own, other)


def test_what_strides_or_is_one_pixel_wide_is_left_alone_and_rates_end_where_the_map_does():
    images = torch.rand(2, 1, 12, 12)
    layers = [nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, 2, padding=1)]
    layers += [nn.Conv2d(2, 2, 3, padding=1) for _ in range(3)]
    after = altered(stack(*layers), images)
    assert [layer.dilation[0] for layer in after] == [1, 1, 1, 2, 2, 2]
    assert after(images).shape == (2, 2, 6, 6)


@pytest.mark.parametrize("layers", [[nn.Linear(4, 4)], [nn.Conv2d(1, 1, 3, padding=1)], [nn.Conv2d(1, 1, 3)] * 2])
def test_nothing_to_dilate_is_said(layers):
    with pytest.raises(NoEffect, match="expected at least two"):
        altered(stack(*layers), torch.rand(2, 1, 8, 8)[..., :4] if isinstance(layers[0], nn.Linear) else torch.rand(2, 1, 8, 8))

"""Dense upsampling against a loop over pixels, and its inverse."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from deepforward.layers.dense_upsampling import DenseUpsampling


@pytest.mark.parametrize(("factor", "classes"), [(1, 2), (2, 3), (3, 2)])
def test_each_pixel_is_one_channel_of_the_convolution(factor, classes):
    rng = torch.Generator().manual_seed(0)
    layer = DenseUpsampling(5, classes, factor).double()
    features = torch.randn(2, 5, 4, 3, dtype=torch.float64, generator=rng)
    logits, channels = layer(features), layer.conv(features)
    assert logits.shape == (2, classes, 4 * factor, 3 * factor)
    for c in range(classes):
        for row in range(4 * factor):
            for column in range(3 * factor):
                y, i, x, j = *divmod(row, factor), *divmod(column, factor)
                assert torch.equal(logits[:, c, row, column], channels[:, c * factor**2 + i * factor + j, y, x])


def test_unshuffling_gives_the_channels_back_exactly():
    rng = torch.Generator().manual_seed(0)
    layer = DenseUpsampling(4, 3, 4)
    features = torch.randn(2, 4, 5, 6, generator=rng)
    assert torch.equal(F.pixel_unshuffle(layer(features), 4), layer.conv(features))

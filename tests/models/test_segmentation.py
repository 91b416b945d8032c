"""The small segmentation network: sizes, what a pixel depends on, and what is refused."""

from __future__ import annotations

import warnings

import pytest
import torch

from deepforward.errors import GriddingWarning, InvalidOption, ShapeError
from deepforward.layers.dilation import touched
from deepforward.models.segmentation import HybridDilatedNetwork


@pytest.mark.parametrize(("stride", "size"), [(1, (13, 20)), (2, (27, 26)), (4, (53, 57))])
def test_every_pixel_of_an_image_of_any_size_gets_a_logit_for_each_class(stride, size):
    model = HybridDilatedNetwork((3, *size), 4, width=4, stride=stride)
    assert model(torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))).shape == (2, 4, *size)


@pytest.mark.parametrize("rates", [(2, 2, 2), (1, 2, 3)])
def test_a_pixel_depends_on_those_that_its_rates_touch(rates):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GriddingWarning)
        model = HybridDilatedNetwork((1, 21, 21), 2, rates=rates, width=8, stride=1).double().eval()
    image = torch.randn(1, 1, 21, 21, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (gradient,) = torch.autograd.grad(model(image)[0, 0, 10, 10], image)
    offsets = torch.from_numpy(touched(rates))
    assert torch.equal(gradient[0, 0, 4:17, 4:17] != 0, offsets[:, None] & offsets[None])
    assert gradient.count_nonzero() == offsets.sum() ** 2


def test_rates_that_leave_holes_are_built_with_a_warning():
    with pytest.warns(GriddingWarning, match=r"hdc-duc: rates \(2, 2, 2\) touch 29.0% .* use \(1, 2, 3\)"):
        HybridDilatedNetwork((1, 32, 32), 2, rates=(2, 2, 2))


def test_what_cannot_be_built_is_refused_in_a_line():
    with pytest.raises(ShapeError, match="got images of 20x40 pixels, smaller than the receptive field of 26x26 of rates"):
        HybridDilatedNetwork((1, 20, 40), 2)
    with pytest.raises(ShapeError, match=r"expected \(channels, height, width\)"):
        HybridDilatedNetwork((64,), 2)
    with pytest.raises(InvalidOption, match="got stride=3, expected one of 1, 2, 4, 8"):
        HybridDilatedNetwork((1, 32, 32), 2, stride=3)

"""Numbers of the inputs are those of NumPy, and the verdict follows from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deepforward.errors import InvalidData, InvalidModel
from deepforward.instruments import InputScale, NormalizationCheck


class Takes(nn.Module):
    """Takes anything, under a keyword."""

    def forward(self, *, pixel_values: Tensor) -> Tensor:
        return pixel_values.float().mean()


def check(*batches: Tensor) -> InputScale:
    return NormalizationCheck().measure(Takes(), batches, lambda model, batch: model(pixel_values=batch))


def draws(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_numbers_by_feature_over_all_batches() -> None:
    batches = [3 + 2 * draws(5, 4), draws(7, 4)]
    batches[0][:, 2] = batches[1][:, 2] = 1.5
    found, x = check(*batches), torch.cat(batches).double().numpy()
    assert (found.name, found.shape, found.examples) == ("pixel_values", (4,), 12)
    for name, expected in {
        "mean": x.mean(0),
        "standard_deviation": x.std(0),
        "smallest": x.min(0),
        "largest": x.max(0),
    }.items():
        np.testing.assert_allclose(getattr(found, name), expected, atol=1e-12)
    overall = [found.overall_mean, found.overall_standard_deviation, found.rms]
    np.testing.assert_allclose(overall, [x.mean(), x.std(), np.sqrt((x**2).mean())])
    assert found.constant_share == 0.25
    low, high = np.quantile(x.std(0)[[0, 1, 3]], [0.1, 0.9])
    assert found.scale_ratio == pytest.approx(high / low) and not found.uneven


def test_features_of_images_are_channels() -> None:
    images = draws(6, 3, 4, 4)
    images[:, :, 0] = 0
    found = check(images)
    np.testing.assert_allclose(found.mean, images.double().numpy().mean((0, 2, 3)), atol=1e-12)
    assert found.shape == (3, 4, 4) and found.constant_share == 0.25


@pytest.mark.parametrize(
    ("inputs", "verdict", "pixels", "uneven"),
    [
        (draws(50, 30), "standardised", False, False),
        (torch.sigmoid(draws(50, 30)), "unit range", False, False),
        (2 * torch.sigmoid(3 * draws(50, 30)) - 1, "standardised", False, False),
        (torch.randint(0, 256, (50, 30), generator=torch.Generator().manual_seed(0)).float(), "unscaled", True, False),
        (torch.randint(0, 256, (50, 30), generator=torch.Generator().manual_seed(0)).byte(), "unscaled", True, False),
        (torch.randint(0, 2, (50, 30), generator=torch.Generator().manual_seed(0)).float(), "unit range", False, False),
        (draws(50, 30) + 5, "unscaled", False, False),
        (draws(50, 30) * torch.logspace(-2, 2, 30), "unscaled", False, True),
    ],
)
def test_verdict(inputs: Tensor, verdict: str, pixels: bool, uneven: bool) -> None:
    found = check(inputs)
    assert (found.verdict, found.pixels, found.uneven) == (verdict, pixels, uneven)
    assert found.says.startswith(f"{verdict}: mean {found.overall_mean:.3g}")


def test_what_has_no_scale_is_refused() -> None:
    with pytest.raises(InvalidModel, match="tokens have no scale"):
        check(torch.arange(6).reshape(2, 3))
    with pytest.raises(InvalidData, match="NaN"):
        check(torch.full((2, 3), torch.nan))
    with pytest.raises(InvalidData, match="different shapes"):
        check(draws(2, 3), draws(2, 4))
    assert check(draws(1, 3)).constant_share is None

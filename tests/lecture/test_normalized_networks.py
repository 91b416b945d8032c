import pytest
import torch
from torch import nn

from deepforward.lecture.normalized_networks import NORMS, LpNorm, Noisy, vgg


@pytest.fixture
def maps():
    return 3 * torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0)) + 1


def test_the_second_norm_is_batch_normalisation(maps):
    torch.testing.assert_close(LpNorm(4, "l2")(maps), nn.BatchNorm2d(4)(maps), rtol=1e-5, atol=1e-5)  # float32


@pytest.mark.parametrize(("norm", "size"), [("l1", lambda x: x.abs().mean()), ("linf", lambda x: x.abs().max())])
def test_other_norms_are_one_for_each_channel_of_what_they_give(maps, norm, size):
    result = LpNorm(4, norm)(maps)
    for channel in result.unbind(1):
        assert size(channel).item() == pytest.approx(1, abs=1e-4)  # 1e-5 is added to the norm
        assert channel.mean().item() == pytest.approx(0, abs=1e-5)


def test_noise_shifts_and_scales_anew_at_every_step_within_its_bounds(maps):
    layer, means = Noisy(4, torch.Generator().manual_seed(0)), []
    for _ in range(2):
        result, normalized = layer(maps).flatten(2), layer.norm(maps).flatten(2)
        centred = normalized - normalized.mean(2, keepdim=True)
        scale = (centred * result).sum(2) / centred.square().sum(2)  # by example and channel, exactly: the noise is affine
        shift = result.mean(2) - scale * normalized.mean(2)
        torch.testing.assert_close(scale[..., None] * normalized + shift[..., None], result, rtol=1e-4, atol=1e-4)
        assert shift.abs().max() <= 0.6 + 1e-4
        assert shift.std(0).max() < 0.1  # uniform within 0.1 of the channel's mean: 0.058
        assert scale.min() > 1 - 5 * 0.1 and scale.max() < 1.25 + 5 * 0.1  # normal about it with 0.1
        means.append(shift.mean(0))
    assert (means[0] - means[1]).abs().max() > 0.1


@pytest.mark.parametrize("normalization", ["none", "batch", "noisy", *NORMS])
def test_all_networks_take_images_of_any_size_from_8(normalization):
    for shape in ((1, 8, 8), (3, 28, 28)):
        assert vgg(shape, normalization, 2, 2, torch.Generator())(torch.randn(3, *shape)).shape == (3, 10)

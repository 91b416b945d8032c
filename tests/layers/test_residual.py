import pytest
import torch
from torch import nn

from deepforward.layers.residual import PadShortcut, Skip


@pytest.mark.parametrize("scale", [1.0, 0.25, 0.0, -2.0])
def test_skip_is_the_sum(scale):
    branch, x = nn.Linear(4, 4).double(), torch.randn(3, 4, dtype=torch.float64)
    assert torch.allclose(Skip(branch, scale)(x), x + scale * branch(x), atol=1e-15)


def test_skip_uses_its_shortcut():
    branch, shortcut, x = nn.Linear(4, 2), nn.Linear(4, 2), torch.randn(3, 4)
    assert torch.equal(Skip(branch, shortcut=shortcut)(x), shortcut(x) + branch(x))


@pytest.mark.parametrize(("channels", "stride"), [((2, 5), 2), ((3, 3), 2), ((1, 4), 1), ((2, 4), 3)])
def test_pad_shortcut_pixel_by_pixel(channels, stride):
    x = torch.randn(2, channels[0], 7, 6)
    result = PadShortcut(*channels, stride)(x)
    before = (channels[1] - channels[0]) // 2
    assert result.shape == (2, channels[1], -(-7 // stride), -(-6 // stride))
    for c in range(channels[1]):
        for i in range(result.shape[2]):
            for j in range(result.shape[3]):
                inside = before <= c < before + channels[0]
                expected = x[:, c - before, stride * i, stride * j] if inside else torch.zeros(2)
                assert torch.equal(result[:, c, i, j], expected)
    assert not list(PadShortcut(*channels, stride).parameters())

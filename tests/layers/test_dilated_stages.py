"""What a stage of any module touches, held against its own gradient with all weights one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepforward.errors import InvalidModel, NoEffect
from deepforward.layers import alter
from deepforward.layers.dilated_stages import differentiable, dilated_stages
from deepforward.layers.dilation import coverage


def conv(rate, taps=3, given=2, **options):
    return nn.Conv2d(given, 2, taps, padding=rate * (taps // 2), dilation=rate, **options)


class Skips(nn.Module):
    """x + f(x), each f two convolutions."""

    def __init__(self, *rates):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(conv(rate), nn.ReLU(), conv(rate)) for rate in rates)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return x


class Parallel(nn.Module):
    """Rates beside each other, as in a pyramid."""

    def __init__(self, *rates):
        super().__init__()
        self.branches = nn.ModuleList(conv(rate) for rate in rates)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


STAGES = {
    "chain": (nn.Sequential(conv(2), nn.BatchNorm2d(2), nn.ReLU(), conv(2), conv(2)), ["0", "3", "4"]),
    "chain after a plain one": (nn.Sequential(conv(1), conv(2), conv(2)), ["0", "1", "2"]),
    "one tap between": (nn.Sequential(conv(3), conv(1, taps=1), nn.Tanh(), conv(3)), ["0", "3"]),
    "two kernels": (nn.Sequential(conv(2), conv(1, taps=5)), ["0", "1"]),
    "not square": (
        nn.Sequential(nn.Conv2d(2, 2, (3, 1), dilation=(2, 1)), nn.Conv2d(2, 2, (1, 5), dilation=(1, 3))),
        ["0", "1"],
    ),
    "without padding": (nn.Sequential(nn.Conv2d(2, 2, 3, dilation=2), nn.Conv2d(2, 2, 2, dilation=3)), ["0", "1"]),
    "skips": (Skips(2, 2), ["blocks.0.0", "blocks.0.2", "blocks.1.0", "blocks.1.2"]),
    "parallel": (nn.Sequential(Parallel(1, 4), conv(2, given=4)), ["0.branches.0", "0.branches.1", "1"]),
    "groups": (nn.Sequential(conv(2, groups=2), conv(1, taps=1), conv(2, groups=2)), ["0", "2"]),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_touches_what_its_gradient_reaches(name):
    module, names = STAGES[name]
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(0.01)
    image = torch.zeros(1, 2, 41, 41, dtype=torch.float64, requires_grad=True)
    outputs = module(image)
    (stage,) = dilated_stages(outputs, module)
    assert [layer.name for layer in stage.layers] == names
    middle = outputs[..., outputs.shape[2] // 2, outputs.shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(middle, image)
    reached = gradient[0].sum(0) > 0  # all weights positive: no two paths cancel
    rows, columns = (reached.any(axis).nonzero()[:, 0] for axis in (1, 0))
    assert stage.field == (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)
    assert stage.coverage == int(reached.sum()) / (stage.field[0] * stage.field[1])


def test_a_change_of_the_grid_begins_a_stage():
    parts = [
        (conv(1), nn.Conv2d(2, 2, 3, stride=2, padding=1)),
        (conv(2), conv(2), nn.MaxPool2d(2)),
        (conv(1), conv(3), nn.Upsample(scale_factor=2)),
        (conv(4), nn.Conv2d(2, 8, 1), nn.PixelShuffle(2)),
        (conv(5), nn.ConvTranspose2d(2, 2, 2, 2), conv(1)),
    ]
    module = nn.Sequential(*(layer for part in parts for layer in part))
    stages = dilated_stages(module(torch.zeros(1, 2, 40, 40)).sum(), module)
    found = [([max(layer.rates) for layer in stage.layers], stage.coverage) for stage in stages]
    assert found == [(rates, coverage(rates)) for rates in ([2, 2], [1, 3], [4], [5])]


def test_sequences_and_volumes():
    line = nn.Sequential(nn.Conv1d(1, 1, 3, dilation=2), nn.Conv1d(1, 1, 3, dilation=2))
    (stage,) = dilated_stages(line(torch.zeros(1, 1, 20)), line)
    assert (stage.field, stage.coverage) == ((9,), 5 / 9)
    volume = nn.Conv3d(1, 1, 3, dilation=2)
    (stage,) = dilated_stages(volume(torch.zeros(1, 1, 8, 8, 8)), volume)
    assert (stage.field, stage.coverage) == ((5, 5, 5), 27 / 125)


def test_frozen_shared_and_reparametrised_weights_have_names():
    shared = conv(2)
    module = nn.Sequential(shared, nn.utils.parametrizations.weight_norm(conv(2)), shared)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    with differentiable(module):
        (stage,) = dilated_stages(module(torch.zeros(1, 2, 20, 20)), module)
    assert [layer.name for layer in stage.layers][1] == "1"
    assert stage.layers[0] == stage.layers[2]
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_nothing_dilated_is_no_stage():
    plain = nn.Sequential(conv(1), nn.Flatten(), nn.Linear(200, 3))
    assert dilated_stages(plain(torch.zeros(1, 2, 10, 10)), plain) == ()
    assert dilated_stages(torch.zeros(2), plain) == ()


def altered(module, size=30):
    return alter(module, torch.zeros(2, 2, size, size), ["hybrid-dilation"], torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_hybrid_dilation_changes_rates_and_keeps_weights_and_sizes(mode):
    module = nn.Sequential(conv(2, padding_mode=mode), nn.ReLU(), conv(2, padding_mode=mode), conv(2, padding_mode=mode))
    changed = altered(module)
    assert [child.dilation[0] for child in changed if isinstance(child, nn.Conv2d)] == [1, 2, 3]
    assert [child.dilation[0] for child in module if isinstance(child, nn.Conv2d)] == [2, 2, 2]
    image = torch.randn(1, 2, 20, 23, generator=torch.Generator().manual_seed(0))
    assert changed(image).shape == module(image).shape == image.shape
    wanted = image
    for layer, rate in zip((module[0], None, module[2], module[3]), (1, None, 2, 3), strict=True):
        if layer is None:
            wanted = wanted.relu()
            continue
        padded = F.pad(wanted, (rate,) * 4, mode="constant" if mode == "zeros" else mode)
        wanted = F.conv2d(padded, layer.weight, layer.bias, dilation=rate)
    torch.testing.assert_close(changed(image), wanted)  # the same sums in another order


def test_without_padding_the_output_keeps_its_size_too():
    module = nn.Sequential(*(nn.Conv2d(2, 2, 3, dilation=4) for _ in range(3)))
    image = torch.zeros(2, 2, 30, 30)
    assert altered(module)(image).shape == module(image).shape
    assert dilated_stages(altered(module)(image), module)[0].coverage == 1


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(conv(1)), "found no dilated convolution"),
        (nn.Sequential(conv(1), conv(2)), "whose rates leave no hole"),
        (Parallel(6, 9), "left holes, as where rates lie beside each other"),
        (nn.Sequential(*[conv(2)] * 2), "a module called twice"),
    ],
)
def test_what_cannot_be_mended_is_said(module, message):
    with pytest.raises(NoEffect, match=message):
        altered(module)


def test_a_module_that_fails_is_named():
    with pytest.raises(InvalidModel, match="Sequential fails on an example of shape"):
        altered(nn.Sequential(conv(2), nn.Linear(7, 3)))

"""The field found by following the graph is, to the pixel, the one that gradients reach, and the one that arithmetic gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from deepforward.errors import InvalidModel, UnknownName
from deepforward.instruments.gradient_support import gradient_support
from deepforward.instruments.receptive_field import receptive_fields
from deepforward.models.convolutional import LeNet5
from deepforward.models.lecun1989 import LeCun1989
from deepforward.models.residual import ResidualNetwork


class EncoderDecoder(nn.Module):
    """Two branches of different sight, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.up, self.last = nn.ConvTranspose2d(4, 4, 2, stride=2), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        first = F.relu(self.first(inputs))
        second = F.relu(self.second(F.max_pool2d(first, 2)))
        return self.last(torch.cat([first, self.up(second)], 1))


class Gated(nn.Module):
    """A gate that sees all of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.last = nn.Conv2d(1, 4, 3), nn.Linear(4, 4), nn.Conv2d(4, 4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        first = F.gelu(self.first(inputs))
        return self.last(first * torch.sigmoid(self.gate(first.mean((2, 3))))[:, :, None, None])


class Shuffled(nn.Module):
    """Channels are shuffled and parted, and half of them go through a wider kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, groups=2, padding=1)
        self.wide = nn.Conv2d(2, 4, 5, padding=2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        first = self.first(inputs)
        size = first.shape[2:]
        halves = self.second(first.view(-1, 2, 2, *size).transpose(1, 2).reshape(-1, 4, *size)).chunk(2, 1)
        return torch.cat([self.wide(halves[0]), halves[1]], 1)[:, :, 1:, ::2]


def _layers(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


ZOO = {
    "lenet5": (lambda: LeNet5((1, 20, 20), 10), (1, 20, 20)),
    "lecun1989": (lambda: LeCun1989((1, 16, 16), 10), (1, 16, 16)),
    "resnet8": (lambda: ResidualNetwork((1, 16, 16), 10, depth=8), (1, 16, 16)),
    "dilated": (
        lambda: _layers(*(nn.Conv2d(1, 1, 3, dilation=rate, padding=rate) for rate in (1, 2, 4)), nn.Tanh()),
        (1, 24, 24),
    ),
    "uneven": (
        lambda: _layers(
            nn.Conv2d(1, 3, (5, 3), stride=(2, 1), padding=(1, 0)),
            nn.LeakyReLU(),
            nn.AvgPool2d(3, 2, 1),
            nn.Conv2d(3, 2, 3, stride=2),
        ),
        (1, 30, 28),
    ),
    "maximum": (
        lambda: _layers(
            *(
                layer
                for i in (1, 6, 6)
                for layer in (nn.Conv2d(i, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2))
            )
        ),
        (1, 32, 32),
    ),
    "encoder-decoder": (EncoderDecoder, (1, 16, 16)),
    "gated": (Gated, (1, 12, 12)),
    "shuffled": (Shuffled, (1, 12, 12)),
    "larger": (
        lambda: _layers(
            nn.Conv2d(1, 8, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.PixelShuffle(2),
            nn.Conv2d(2, 2, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(2, 2, 1),
        ),
        (1, 16, 16),
    ),
    "other padding": (
        lambda: _layers(nn.ReflectionPad2d(1), nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)),
        (1, 16, 16),
    ),
    "normalised": (
        lambda: _layers(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Conv2d(4, 2, 2), nn.GroupNorm(1, 2)),
        (1, 17, 17),
    ),
}


def ends(support: torch.Tensor) -> tuple[int, int, int, int]:
    rows, columns = support.any(1).nonzero().flatten(), support.any(0).nonzero().flatten()
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


@pytest.mark.parametrize("name", ZOO)
def test_the_analytic_field_is_the_support_of_the_gradient_exactly(name):
    factory, shape = ZOO[name]
    torch.manual_seed(0)
    model, images = factory(), torch.rand(2, *shape)
    leaves = [
        n for n, m in model.named_modules() if n and not any(True for _ in m.children()) and not isinstance(m, nn.Flatten)
    ]
    layers = leaves[:: -(-len(leaves) // 6)]
    for layer, field in receptive_fields(model, images, layers).items():
        assert field.box(*field.centre) == ends(gradient_support(model, images, layer)), layer


def test_units_at_the_border_see_what_is_left_inside():
    model, images = ZOO["uneven"][0](), torch.rand(1, 1, 30, 28)
    field = receptive_fields(model, images, ["3"])["3"]
    for row in (0, len(field.rows) - 1):
        for column in (0, len(field.columns) - 1):
            assert field.box(row, column) == ends(gradient_support(model, images, "3", (row, column)))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(1, 3)), min_size=1, max_size=4))
def test_a_chain_of_layers_has_the_field_that_the_recurrence_gives(layers):
    """r <- r + (k - 1) d j and j <- j s, from r = j = 1."""
    size, jump, modules = 1, 1, []
    for kernel, stride, dilation in layers:
        modules.append(nn.Conv2d(1, 1, kernel, stride, dilation=dilation))
        size, jump = size + (kernel - 1) * dilation * jump, jump * stride
    field = receptive_fields(_layers(*modules), torch.rand(1, 1, size + jump, size + jump), [str(len(layers) - 1)])
    (found,) = field.values()
    assert found.size == (size, size)
    assert found.stride == (jump, jump)
    assert found.start == (0, 0)
    assert not found.is_measured


def test_the_published_field_of_a_known_network():
    """AlexNet's conv5 sees 163 pixels in steps of 16 (Araujo, Norris, Sim 2019, table 1: 195 with its pooling)."""
    layers = [nn.Conv2d(1, 1, 11, 4, 2), nn.MaxPool2d(3, 2), nn.Conv2d(1, 1, 5, padding=2), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(1, 1, 3, padding=1) for _ in range(3)] + [nn.MaxPool2d(3, 2)]
    fields = receptive_fields(_layers(*layers), torch.rand(1, 1, 224, 224), ["6", "7"])
    assert fields["6"].size == (163, 163)
    assert fields["7"].size == (195, 195)
    assert fields["7"].stride == (32.0, 32.0)


def test_dilation_leaves_holes_that_the_support_shows():
    """Rates (2, 2, 2) touch 49 of the 169 pixels of their field (Wang et al. 2018; A4.7)."""
    model = _layers(*(nn.Conv2d(1, 1, 3, dilation=2, padding=2) for _ in range(3)))
    images = torch.rand(1, 1, 32, 32)
    assert receptive_fields(model, images, ["2"])["2"].size == (13, 13)
    assert int(gradient_support(model, images, "2").sum()) == 49


def test_what_is_no_layer_or_does_not_depend_on_the_image_is_refused():
    model, images = LeNet5((1, 8, 8), 3), torch.rand(2, 1, 8, 8)
    with pytest.raises(UnknownName, match=r"conv1\.activation"):
        receptive_fields(model, images, ["conv1.activatio"])
    with pytest.raises(InvalidModel, match="does not call 'spare'"):
        receptive_fields(Spare(), images, ["spare"])
    with pytest.raises(InvalidModel, match="does not depend on the image"):
        receptive_fields(Spare(), images, ["constant"])


class Spare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare, self.constant = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.used(inputs) + self.constant(inputs.new_ones(1, 1, 8, 8))

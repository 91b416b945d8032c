"""How much a network sees at once where places are no longer told apart, and how large objects are."""

import pytest
import torch
from torch import nn

from deepforward.errors import InvalidModel
from deepforward.instruments.field_of_view import FieldOfView, object_extents
from deepforward.models.convolutional import LeNet5
from deepforward.models.residual import ResidualNetwork


def view(model: nn.Module, images: torch.Tensor):
    return FieldOfView().measure(model, [images], lambda m, batch: m(batch).square().mean())


def layers(*head: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), *head)


class Tokens(nn.Module):
    """A patch embedding, attention between the patches, and their mean."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Conv2d(1, 4, 4, stride=4), nn.LayerNorm(4)
        self.attention, self.head = nn.MultiheadAttention(4, 1, batch_first=True), nn.Linear(4, 3)

    def forward(self, images):
        tokens = self.norm(self.embed(images).flatten(2).transpose(1, 2))
        return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))


POOLED = {
    "average": layers(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
    "maximum": layers(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
    "no layer behind": layers(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
}


@pytest.mark.parametrize("name", POOLED)
def test_places_that_are_pooled_see_what_their_layer_sees(name):
    found = view(POOLED[name], torch.rand(4, 1, 16, 16))
    assert found.field == (5, 5)
    assert found.image == (16, 16)
    assert found.layer == "3"


def test_a_residual_network_is_judged_where_it_averages():
    """1 + 2 (stem) + 4 (stage 1) + 2 + 4 (stage 2, its second layer in steps of 2) + 4 + 8 (stage 3)."""
    assert view(ResidualNetwork((1, 16, 16), 3, depth=8), torch.rand(4, 1, 16, 16)).field == (25, 25)


@pytest.mark.parametrize("model", [LeNet5((1, 16, 16), 3), layers(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3))])
def test_a_layer_that_is_fed_with_places_sees_everything(model):
    with pytest.raises(InvalidModel, match="told apart"):
        view(model, torch.rand(4, 1, 16, 16))


@pytest.mark.parametrize(
    ("model", "inputs", "why"),
    [
        (nn.Linear(4, 2), torch.rand(3, 4), "something else"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), torch.rand(3, 1, 4, 4), "no layer of maps"),
        (layers(nn.Upsample(scale_factor=2)), torch.rand(3, 1, 16, 16), "an output for each place"),
        (Tokens(), torch.rand(3, 1, 16, 16), "become tokens"),
    ],
)
def test_what_is_no_convolutional_network_on_images_is_refused(model, inputs, why):
    with pytest.raises(InvalidModel, match=why):
        view(model, inputs)


@pytest.mark.parametrize(("height", "width"), [(3, 5), (6, 2), (1, 1)])
def test_the_extent_of_a_box_in_noise_is_its_longer_side(height, width):
    images = 0.05 * torch.randn(5, 2, 20, 20, generator=torch.Generator().manual_seed(0)) + 3.0
    images[:, 0, 4 : 4 + height, 7 : 7 + width] += 1.0
    assert object_extents(images).tolist() == [max(height, width)] * 5


def test_an_image_without_an_object_has_no_extent():
    assert len(object_extents(torch.ones(3, 1, 8, 8))) == 0

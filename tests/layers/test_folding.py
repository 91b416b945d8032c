"""A folded module gives what the module gives, or nothing is folded."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepforward.errors import InvalidModel, NoEffect
from deepforward.layers.folding import fold_batch_normalization
from deepforward.models.perceptrons import Perceptron
from deepforward.models.residual import resnet20


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


X = torch.randn(8, 6, generator=generator(), dtype=torch.float64)
IMAGES = torch.randn(4, 2, 8, 8, generator=generator(), dtype=torch.float64)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def seasoned(module):
    """In float64 and evaluation mode, with statistics, scales and shifts far from those of a new module."""
    module.double().eval()
    rng = generator(1)
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, NORMS) and child.running_mean is not None:
                child.running_mean.normal_(generator=rng)
                child.running_var.uniform_(0.3, 3, generator=rng)
                if child.affine:
                    child.weight.normal_(generator=rng)
                    child.bias.normal_(generator=rng)
    return module


def norms(module):
    return sum(isinstance(child, NORMS) for child in module.modules())


def linear(**options):
    return nn.Sequential(nn.Linear(6, 5, **options), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3), nn.BatchNorm1d(3))


def volumes():
    return nn.Sequential(
        nn.Unflatten(1, (1, 2)), nn.Conv3d(1, 3, 3, padding=1, bias=False), nn.BatchNorm3d(3, eps=0.1), nn.ReLU()
    )


def series():
    return nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Conv1d(2, 4, 2), nn.BatchNorm1d(4, affine=False), nn.Tanh())


def grouped():
    return nn.Sequential(nn.Conv2d(2, 6, 3, groups=2, stride=2), nn.BatchNorm2d(6, momentum=None), nn.GELU())


@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (linear, X),
        (lambda: linear(bias=False), X),
        (volumes, IMAGES),
        (series, X),
        (grouped, IMAGES),
        (lambda: Perceptron((6,), 3, depth=4, width=7, normalization="batch", residual=2), X),
        (lambda: resnet20((2, 8, 8), 3), IMAGES),
    ],
    ids=["linear", "no bias", "volumes", "series", "grouped", "perceptron", "resnet20"],
)
def test_folded_gives_the_same_without_normalisation(build, inputs):
    module = seasoned(build())
    before = copy.deepcopy(module.state_dict())
    folded = fold_batch_normalization(module, inputs)
    assert norms(module) > 0
    assert norms(folded) == 0
    expected = module(inputs)
    # rounding of float64 through at most 20 layers, relative to the largest output
    assert float((folded(inputs) - expected).detach().abs().max() / expected.detach().abs().max()) < 1e-12
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not folded.training


def test_it_holds_for_inputs_other_than_the_example():
    module = seasoned(linear())
    folded = fold_batch_normalization(module, X)
    assert torch.allclose(folded(100 * X[:1] + 3), module(100 * X[:1] + 3), rtol=1e-12, atol=1e-12)


def test_float32_is_folded_within_its_rounding():
    module = seasoned(resnet20((2, 8, 8), 3)).float()
    assert norms(fold_batch_normalization(module, IMAGES.float())) == 0


class Two(nn.Module):
    """One foldable pair, `a` and `a_norm`, and a place for one that is not."""

    def __init__(self):
        super().__init__()
        self.a, self.a_norm, self.b, self.b_norm = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 6), nn.BatchNorm1d(6)

    def start(self, x):
        return self.a_norm(self.a(x)).relu()


class SharedAffine(Two):
    def forward(self, x):
        x = self.b_norm(self.b(self.start(x)))
        return self.b(x)


class SharedNorm(Two):
    def forward(self, x):
        return self.b_norm(self.b_norm(self.b(self.start(x))))


class ReadTwice(Two):
    def forward(self, x):
        z = self.b(self.start(x))
        return self.b_norm(z) + z


class Returned(Two):
    def forward(self, x):
        z = self.b(self.start(x))
        return {"logits": self.b_norm(z), "raw": z}


class ChangedBetween(Two):
    def forward(self, x):
        return self.b_norm(self.b(self.start(x)).mul_(2))


class NotKept(Two):
    def __init__(self):
        super().__init__()
        self.b_norm = nn.BatchNorm1d(6, track_running_stats=False)

    def forward(self, x):
        return self.b_norm(self.b(self.start(x)))


class Computed(Two):
    def __init__(self):
        super().__init__()
        self.b = nn.utils.parametrizations.weight_norm(self.b)

    def forward(self, x):
        return self.b_norm(self.b(self.start(x)))


class Sequence(Two):
    """A square sequence, whose second axis has as many positions as the layer has outputs."""

    def forward(self, x):
        return self.b_norm(self.b(self.start(x).expand(6, 8, 6).transpose(0, 1)))


@pytest.mark.parametrize("kind", [SharedAffine, SharedNorm, ReadTwice, Returned, ChangedBetween, NotKept, Computed, Sequence])
def test_only_what_can_be_folded_is(kind):
    module = seasoned(kind())
    folded = fold_batch_normalization(module, X)
    assert isinstance(folded.a_norm, nn.Identity)
    assert isinstance(folded.b_norm, nn.BatchNorm1d)
    expected, given = module(X), folded(X)
    for key in expected if isinstance(expected, dict) else [slice(None)]:
        assert torch.allclose(given[key], expected[key], rtol=1e-12, atol=1e-12)


def test_pixels_flattened_in_between_are_left_alone():
    module = seasoned(nn.Sequential(nn.Conv2d(2, 3, 8), nn.Flatten(), nn.BatchNorm1d(3), nn.ReLU()))
    with pytest.raises(NoEffect, match="none of 1"):
        fold_batch_normalization(module, IMAGES)


class TiedDecoder(Two):
    def forward(self, x):
        return F.linear(self.start(x), self.a.weight.t())


class Peeking(Two):
    def forward(self, x):
        return self.start(x) * self.a_norm.weight


@pytest.mark.parametrize(("kind", "reason"), [(TiedDecoder, "changed the outputs"), (Peeking, "module that fails")])
def test_a_weight_used_elsewhere_is_refused(kind, reason):
    with pytest.raises(InvalidModel, match=reason) as caught:
        fold_batch_normalization(seasoned(kind()), X)
    assert "\n" not in str(caught.value)


def test_layers_that_share_a_weight_by_name_are_folded_apart():
    module = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6))
    module[3].weight = module[0].weight
    seasoned(module)
    folded = fold_batch_normalization(module, X)
    assert torch.allclose(folded(X), module(X), rtol=1e-12, atol=1e-12)


def test_training_mode_is_refused():
    with pytest.raises(InvalidModel, match=r"call \.eval\(\)") as caught:
        fold_batch_normalization(linear().double(), X)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("build", [lambda: nn.Linear(6, 2), lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2))])
def test_nothing_to_fold_is_said(build):
    with pytest.raises(NoEffect, match=r"none of [01] batch normalisations") as caught:
        fold_batch_normalization(seasoned(build()), X)
    assert "\n" not in str(caught.value)


def test_a_module_that_cannot_be_run_is_invalid():
    with pytest.raises(InvalidModel, match="fails on an example"):
        fold_batch_normalization(seasoned(linear()), X[:, :3])

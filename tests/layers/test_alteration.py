"""Alterations change any module, keep its forward code, and say when they change nothing."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepforward.errors import DeepforwardWarning, InvalidModel, InvalidOption, NoEffect, UnknownName
from deepforward.layers.alteration import ALTERATIONS, alter
from deepforward.layers.residual import Skip
from deepforward.models.convolutional import LeNet5
from deepforward.models.perceptrons import Perceptron
from deepforward.models.residual import plain20, resnet20


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


X = torch.randn(8, 6, generator=generator())
IMAGES = torch.randn(8, 1, 8, 8, generator=generator())


def sequential():
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(6, 2))


class Nested(nn.Module):
    """A list of layers, one activation for all, and a forward of its own."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6, bias=i > 0) for i in range(3))
        self.heads = nn.ModuleDict({"mean": nn.Linear(6, 2)})
        self.act = nn.ELU()

    def forward(self, x):
        for layer in self.layers:
            x = self.act(layer(x))
        return self.heads["mean"](x)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc, self.out = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(64, 64), nn.Linear(64, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        return self.out(F.dropout(F.relu(self.fc(x.flatten(1))), training=self.training))


class Tied(nn.Module):
    """Reads the weights of a layer, so that replacing the layer breaks it."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(6, 6)

    def forward(self, x):
        return F.linear(F.relu(self.encoder(x)), self.encoder.weight.T)


ZOO = {
    "sequential": (sequential, X),
    "nested": (Nested, X),
    "functional": (Functional, IMAGES),
    "lenet5": (lambda: LeNet5((1, 8, 8), 3), IMAGES),
    "plain20": (lambda: plain20((1, 8, 8), 3), IMAGES),
    "perceptron": (lambda: Perceptron((6,), 3, depth=4, width=6), X),
    "dilated": (lambda: nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=2, dilation=2) for _ in range(3))), IMAGES),
}
APPLICABLE = [
    *((name, "critical-initialization") for name in ("sequential", "nested", "functional", "lenet5", "perceptron")),
    *((name, "batch-normalization") for name in ("sequential", "nested", "functional", "lenet5", "perceptron")),
    *((name, "he-initialization") for name in ZOO),
    *((name, "residual") for name in ("sequential", "nested", "functional", "plain20", "perceptron")),
    *((name, "activation?name=gelu") for name in ("sequential", "nested", "lenet5", "plain20", "perceptron")),
    ("plain20", "growing-dilation"),
    ("dilated", "hybrid-dilation"),
]


@pytest.mark.parametrize(("name", "alteration"), APPLICABLE)
def test_altered_copy_trains_and_the_original_is_untouched(name, alteration):
    build, inputs = ZOO[name]
    model = build()
    state, text = copy.deepcopy(model.state_dict()), repr(model)
    altered = alter(model, inputs, [alteration], generator())
    assert repr(model) == text
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(child.training for child in altered.modules())
    altered(inputs).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in altered.parameters())
    same = repr(altered) == text and all(torch.equal(altered.state_dict()[k], v) for k, v in state.items())
    assert not same


@pytest.mark.parametrize("name", ["sequential", "nested", "perceptron"])
def test_batch_normalization_stands_before_each_hidden_activation_only(name):
    build, inputs = ZOO[name]
    model = build()
    hidden = sum(isinstance(child, nn.Linear) for child in model.modules()) - 1
    altered = alter(model, inputs, ["batch-normalization"], generator())
    assert sum(isinstance(child, nn.BatchNorm1d) for child in altered.modules()) == hidden
    outputs = altered(inputs)
    assert outputs.shape == model(inputs).shape
    norms = [child for child in altered.modules() if isinstance(child, nn.BatchNorm1d)]
    assert all(norm.num_batches_tracked == 1 for norm in norms)  # the trial run left the statistics alone


def test_residual_adds_the_input_before_the_activation():
    model = sequential().double().eval()
    x = X.double()
    altered = alter(model, x, ["residual?scale=0.25"], generator())
    h = (x + 0.25 * model[0](x)).relu()
    h = (h + 0.25 * model[2](h)).relu()
    assert torch.allclose(altered(x), model[5](h), atol=1e-14)


def test_residual_takes_the_normalisation_into_the_branch():
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2)).double().eval()
    model[1].running_mean.uniform_(-1, 1)
    x = X.double()
    altered = alter(model, x, ["residual"], generator())
    assert torch.allclose(altered(x), model[3](torch.tanh(x + model[1](model[0](x)))), atol=1e-14)


def test_residual_leaves_a_normalisation_that_serves_two_layers():
    norm = nn.BatchNorm1d(6)
    model = nn.Sequential(nn.Linear(6, 6), norm, nn.ReLU(), nn.Linear(6, 6), norm, nn.ReLU(), nn.Linear(6, 6), nn.ReLU())
    model.append(nn.Linear(6, 2))
    altered = alter(model, X, ["residual"], generator())
    assert [type(altered[i]).__name__ for i in (0, 1, 3, 4, 6)] == ["Linear", "BatchNorm1d", "Linear", "BatchNorm1d", "Skip"]


def test_default_scale_is_one_over_the_root_of_the_number_of_skips():
    altered = alter(Perceptron((6,), 3, depth=9, width=6), X, ["residual"], generator())
    assert {child.scale for child in altered.modules() if isinstance(child, Skip)} == {1 / 3}


def test_alterations_go_together_in_their_order():
    altered = alter(
        Perceptron((6,), 3, depth=5, width=6),
        X,
        ["critical-initialization", "batch-normalization", "residual", "activation?name=silu"],
        generator(),
    )
    kinds = [type(child).__name__ for child in altered.modules()]
    assert [kinds.count(kind) for kind in ("Linear", "BatchNorm1d", "Skip", "SiLU", "ReLU")] == [6, 5, 5, 5, 0]


def test_same_generator_same_weights():
    model = sequential()
    first, second = (alter(model, X, ["critical-initialization"], generator(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    ("build", "inputs", "alteration", "reason"),
    [
        (lambda: nn.Linear(6, 2), X, "batch-normalization", "no Linear or Conv layer"),
        (lambda: nn.Linear(6, 2), X, "critical-initialization", "no Linear or Conv layer"),
        (lambda: nn.Linear(6, 2), X, "residual", "no Linear or Conv layer"),
        (lambda: nn.Linear(6, 2), X, "activation?name=relu", "there is none"),
        (sequential, X, "activation?name=relu", "all are such already"),
        (Functional, IMAGES, "activation?name=gelu", r"2 called as functions \(relu\) cannot be swapped"),
        (lambda: resnet20((1, 8, 8), 3), IMAGES, "batch-normalization", "normalised already"),
        (lambda: resnet20((1, 8, 8), 3), IMAGES, "residual", "is skipped already"),
        (lambda: LeNet5((1, 8, 8), 3), IMAGES, "residual", "changes its shape"),
        (lambda: alter(sequential(), X, ["residual"], generator()), X, "residual", "no Linear or Conv layer"),
    ],
)
def test_an_alteration_without_effect_says_why(build, inputs, alteration, reason):
    with pytest.raises(NoEffect, match=reason) as caught:
        alter(build(), inputs, [alteration], generator())
    assert "\n" not in str(caught.value)


def test_functions_beside_modules_are_named_in_a_warning():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.act, self.b, self.out = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.out(torch.tanh(self.b(self.act(self.a(x)))))

    with pytest.warns(DeepforwardWarning, match=r"swapped 1 modules; 1 called as functions \(tanh\)"):
        altered = alter(Mixed(), X, ["activation?name=gelu"], generator())
    assert isinstance(altered.act, nn.GELU)


def test_a_module_that_relies_on_its_layers_is_reported():
    with pytest.raises(InvalidModel, match=r"after batch-normalization .* relies on the replaced layers") as caught:
        alter(Tied(), X, ["batch-normalization"], generator())
    assert "\n" not in str(caught.value)
    assert alter(Tied(), X, ["critical-initialization"], generator())(X).shape == (8, 6)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("batchnorm", UnknownName),
        ("residul", UnknownName),
        ("activation?name=rellu", UnknownName),
        ("activation", InvalidOption),
        ("residual?scal=1", InvalidOption),
        ("residual?scale=big", InvalidOption),
        ("batch-normalization?momentum=0.1", InvalidOption),
        ("critical-initialization?orthogonal=maybe", InvalidOption),
    ],
)
def test_a_misspelt_alteration_is_refused(text, error):
    with pytest.raises(error) as caught:
        alter(sequential(), X, [text], generator())
    assert "\n" not in str(caught.value)


def test_every_alteration_is_exercised_here():
    assert {text.partition("?")[0] for _, text in APPLICABLE} == set(ALTERATIONS)


def test_no_alteration_gives_an_equal_copy():
    model = sequential()
    twin = alter(model, X, [], generator())
    assert twin is not model
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_a_module_that_cannot_be_copied_is_reported():
    model = sequential()
    model.cache = torch.ones(2, requires_grad=True) * 2  # torch copies leaves only
    with pytest.raises(InvalidModel, match="Sequential cannot be copied") as caught:
        alter(model, X, ["residual"], generator())
    assert "\n" not in str(caught.value)

"""The wiring is read off one pass, whatever way the module is written."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepforward.layers.recognition import is_activation
from deepforward.layers.wiring import trace

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


class Centered(nn.Module):
    def forward(self, x):
        return (x - x.mean()).relu()


class Functional(nn.Module):
    """F.relu, a method, an in-place function and a shared layer, with a pooling in between."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc, self.out = nn.Linear(64, 5), nn.Linear(5, 3)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = self.conv2(x).tanh()
        x = F.leaky_relu_(self.conv2(x), 0.3)
        return self.out(F.gelu(self.fc(x.flatten(1))))


class Residual(nn.Module):
    """A block whose addition is written in place, as torchvision does."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.out = (nn.Linear(6, 6) for _ in range(4))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(self.stem(x))
        y = self.b(self.relu(self.a(x)))
        y += x
        return self.out(self.relu(y))


def names(wiring):
    return [layer.name for layer in wiring.hidden]


@pytest.mark.parametrize("inplace", [False, True])
def test_shared_activation_module(inplace):
    relu = nn.ReLU(inplace=inplace)
    wiring = trace(nn.Sequential(nn.Linear(6, 5), relu, nn.Dropout(), nn.Linear(5, 4), relu, nn.Linear(4, 3)), X)
    assert names(wiring) == ["0", "3"]
    assert [layer.entering for layer in wiring.hidden] == [True, False]
    assert [layer.output_shape for layer in wiring.hidden] == [(4, 5), (4, 4)]
    assert list(wiring.activations) == ["1"]
    assert wiring.functional == ()


def test_functional_activations_are_seen_with_their_arguments():
    wiring = trace(Functional(), IMAGES)
    assert names(wiring) == ["conv1", "conv2", "fc"]
    assert wiring.functional == ("relu", "tanh", "leaky_relu", "gelu")
    assert [layer.calls for layer in wiring.hidden] == [1, 2, 1]
    grid = torch.linspace(-2, 2, 9)
    assert torch.equal(wiring.hidden[0].activation(grid), grid.relu())
    assert torch.equal(wiring.hidden[1].activation(grid), grid.tanh())  # that of its first call
    assert torch.equal(wiring.hidden[2].activation(grid), F.gelu(grid))


def test_arguments_of_a_function_are_kept():
    class Leaky(nn.Sequential):
        def forward(self, x):
            return self[1](F.leaky_relu_(self[0](x), 0.3))

    (layer,) = trace(Leaky(nn.Linear(6, 5), nn.Linear(5, 3)), X).hidden
    grid = torch.linspace(-2, 2, 9)
    assert torch.equal(layer.activation(grid), F.leaky_relu(grid, 0.3))


def test_normalisation_before_and_after():
    wiring = trace(
        nn.Sequential(
            *(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU()),
            *(nn.Linear(5, 5), nn.ReLU(), nn.LayerNorm(5)),
            *(nn.Linear(5, 5), nn.ReLU()),
            nn.Linear(5, 2),
        ),
        X,
    )
    assert [(layer.norm, layer.normalized) for layer in wiring.hidden] == [("1", True), (None, True), (None, False)]


def test_a_layer_is_hidden_only_if_each_of_its_calls_is():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.norm, self.other = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 6)

        def forward(self, x):
            return self.shared(self.norm(self.other(self.norm(self.other(x)).relu())).relu())

    assert [(layer.name, layer.calls) for layer in trace(Twice(), X).hidden] == [("other", 2)]
    assert names(trace(nn.Sequential(shared := nn.Linear(6, 6), nn.ReLU(), shared), X)) == []


def test_layers_inside_a_sum_are_skipped_already():
    wiring = trace(Residual(), X)
    assert {layer.name: layer.skipped for layer in wiring.hidden} == {"stem": False, "a": True}


def test_a_parameter_added_is_no_skip():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.shift, self.out = nn.Linear(6, 6), nn.Parameter(torch.ones(6)), nn.Linear(6, 2)

        def forward(self, x):
            return self.out(F.relu(self.fc(x + self.shift)) + self.shift)

    assert [layer.skipped for layer in trace(Shifted(), X).hidden] == [False]


def test_a_final_activation_makes_no_hidden_layer():
    wiring = trace(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1), nn.Sigmoid(), nn.Flatten()), X)
    assert names(wiring) == ["0"]
    assert list(wiring.activations) == ["1"]


def test_trace_leaves_no_mark():
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(6, 2))
    model[3].eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    rng, inputs = torch.get_rng_state(), X.clone()
    trace(model, inputs)
    assert [child.training for child in model] == [True, True, True, False, True]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(rng, torch.get_rng_state())
    assert torch.equal(inputs, X)
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in model.modules())


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        *((m, True) for m in (Swish(), nn.PReLU(), nn.Hardswish(), nn.ReLU6(), nn.Softshrink(), nn.Mish(), nn.LogSigmoid())),
        *((m, False) for m in (Centered(), nn.Softmax(1), nn.Softmax(0), nn.GLU(), nn.Dropout(), nn.Identity(), nn.Flatten())),
        *(
            (m, False)
            for m in (nn.Linear(1, 1), nn.LayerNorm(1), nn.Sequential(nn.ReLU()), nn.MaxPool1d(2), nn.Bilinear(1, 1, 1))
        ),
    ],
    ids=lambda x: type(x).__name__,
)
def test_an_activation_is_elementwise_and_not_affine(module, expected):
    assert is_activation(module) == expected

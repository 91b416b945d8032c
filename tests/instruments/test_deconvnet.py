"""project_back against the gradient, an explicit deconvnet, and on networks of the zoo."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepforward.errors import InvalidModel, InvalidOption, ShapeError, UnknownName
from deepforward.instruments import project_back
from deepforward.instruments.deconvnet import RULES
from deepforward.models.convolutional import LeNet5
from deepforward.models.residual import resnet20


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.randn(4, 2, 12, 12, dtype=torch.float64, generator=seeded())


def built(make):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make().double()


class TwoLayers(nn.Module):
    """Convolution, rectifier, pooling, twice, through functions or modules, in place or not."""

    def __init__(self, style="modules"):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 5, 3), nn.Conv2d(5, 4, 2)
        self.relu, self.pool, self.top, self.style = nn.ReLU(inplace=style == "in place"), nn.MaxPool2d(2), nn.Identity(), style

    def rectified(self, values):
        if self.style == "functions":
            return torch.relu(values)
        if self.style == "statements":
            values.relu_()  # its result is not used
            return values
        return self.relu(values)

    def forward(self, images):
        return self.top(self.rectified(self.conv2(self.pool(self.rectified(self.conv1(images))))))


def explicit_deconvnet(model, images, channel, gate):
    """Zeiler and Fergus by hand: unpool with switches, rectify, filter with the transposed filters; `gate`: guided."""
    first = model.conv1(images)
    pooled, switches = F.max_pool2d(first.relu(), 2, return_indices=True)
    second = model.conv2(pooled)
    flat = second.relu()[:, channel].flatten(1)
    signal = torch.zeros_like(second)
    for i, at in enumerate(flat.argmax(1)):
        signal[i, channel].view(-1)[at] = float(flat[i, at] > 0)
    signal = signal.relu() * (second > 0 if gate else 1)
    signal = F.conv_transpose2d(signal, model.conv2.weight)
    signal = F.max_unpool2d(signal, switches, 2, output_size=first.shape)
    signal = signal.relu() * (first > 0 if gate else 1)
    return F.conv_transpose2d(signal, model.conv1.weight)


@pytest.mark.parametrize("style", ["modules", "in place", "functions", "statements"])
@pytest.mark.parametrize("rule", ["deconvnet", "guided"])
def test_it_is_the_network_upside_down(images, style, rule):
    model = built(lambda: TwoLayers(style))
    for channel in range(4):
        wanted = explicit_deconvnet(model, images, channel, gate=rule == "guided")
        found = project_back(model, images, "top", channel, rule)
        assert torch.allclose(found, wanted, atol=1e-14, rtol=0)  # the same sums in float64
    assert wanted.abs().sum() > 0


@pytest.mark.parametrize("rule", RULES)
def test_of_a_linear_network_it_is_the_gradient(images, rule):
    model = built(lambda: nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 5)))
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    assert torch.equal(project_back(model, images, "3", 1, rule), gradient)


def test_the_rules_differ_as_the_paper_says():
    """One rectifier between two weights: signal 1 * w2, then the rule, then w1."""
    model = nn.Sequential(nn.Linear(1, 4, bias=False), nn.ReLU(), nn.Linear(4, 1, bias=False)).double()
    with torch.no_grad():  # input 1: units active, active, silent, silent; above them a positive or a negative weight
        model[0].weight.copy_(torch.tensor([[1.0], [2.0], [-4.0], [-8.0]]))
        model[2].weight.copy_(torch.tensor([[1.0, -1.0, 1.0, -1.0]]))
    one = torch.ones(1, 1, dtype=torch.float64)
    assert [project_back(model, one, "2", 0, rule).item() for rule in ("deconvnet", "guided", "gradient")] == [-3, 1, -1]


def test_a_silent_unit_gives_a_blank_picture(images):
    model = built(TwoLayers)
    with torch.no_grad():
        model.conv2.bias.fill_(-100)
    assert project_back(model, images, "top", 0).count_nonzero() == 0


@pytest.mark.parametrize("make", [lambda: LeNet5((1, 28, 28), 10), lambda: resnet20((1, 28, 28), 10)])
@pytest.mark.parametrize("rule", RULES)
def test_networks_of_the_zoo_are_projected_and_left_as_found(make, rule):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
    inputs = torch.randn(3, 1, 28, 28, generator=seeded(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    names = [name for name, module in model.named_modules() if isinstance(module, nn.ReLU)]
    for name in (names[0], names[-1]):
        picture = project_back(model, inputs, name, 2, rule)
        assert picture.shape == inputs.shape
        assert picture.isfinite().all()
    assert picture.abs().sum() > 0
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_first_layer_shows_its_filter_where_it_answers_most():
    """Of one convolution the picture is its filter, pasted where the correlation is largest."""
    conv = built(lambda: nn.Conv2d(1, 3, 3, bias=False))
    image = torch.randn(1, 1, 9, 9, dtype=torch.float64, generator=seeded(2))
    at = int(conv(image)[0, 1].argmax())
    picture = project_back(nn.Sequential(conv), image, "0", 1)[0, 0]
    wanted = torch.zeros(9, 9, dtype=torch.float64)
    wanted[at // 7 : at // 7 + 3, at % 7 : at % 7 + 3] = conv.weight[1, 0].detach()
    assert torch.equal(picture, wanted)


def test_it_works_in_inference_mode_and_with_frozen_weights(images):
    model = built(TwoLayers).requires_grad_(False)
    wanted = project_back(model, images, "top", 0)
    with torch.inference_mode():
        assert torch.equal(project_back(model, images, "top", 0), wanted)


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (UnknownName, {"layer": "conf1"}, "unknown layer 'conf1'; did you mean conv1"),
        (UnknownName, {"rule": "backprop"}, "unknown rule 'backprop'; one of: deconvnet, gradient, guided"),
        (InvalidOption, {"channel": 4}, "got channel 4; expected one of the 4 of 'top'"),
        (InvalidOption, {"channel": -1}, "got channel -1"),
        (ShapeError, {"inputs": torch.zeros(2, 3, 12, 12)}, "the model refuses inputs of shape"),
    ],
)
def test_bad_requests_are_told_in_one_line(images, error, call, message):
    given = {"inputs": images, "layer": "top", "channel": 0} | call
    with pytest.raises(error, match=message) as caught:
        project_back(built(TwoLayers), **given)
    assert "\n" not in str(caught.value)


def test_networks_that_it_cannot_project_are_refused(images):
    smooth = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Sigmoid()).double()
    assert project_back(smooth, images, "0", 0).abs().sum() > 0  # what comes above does not matter
    assert project_back(smooth, images, "2", 0, "gradient").abs().sum() > 0
    for rule in ("deconvnet", "guided"):
        with pytest.raises(InvalidModel, match=f"got tanh below '2'; '{rule}' expects rectifiers only; take gradient"):
            project_back(smooth, images, "2", 0, rule)
    unused = TwoLayers().double()
    unused.spare = nn.Conv2d(2, 2, 1)
    with pytest.raises(InvalidModel, match="layer 'spare' is not run"):
        project_back(unused, images, "spare", 0)
    with pytest.raises(ShapeError, match=r"layer '0' gives shape \(1152,\)"):
        project_back(nn.Sequential(nn.Flatten(0)), images, "0", 0)
    constant = nn.Sequential(nn.Conv2d(2, 1, 3).double(), Constant())
    with pytest.raises(InvalidModel, match="has no gradient"):
        project_back(constant, images, "1", 0)


class Constant(nn.Module):
    def forward(self, values):
        return torch.ones(len(values), 2)

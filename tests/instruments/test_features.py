"""What layers respond to, against closed forms and slow loops; and that looking leaves no trace."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from deepforward.errors import InvalidData, InvalidOption
from deepforward.instruments.activation_maximization import activation_maximization
from deepforward.instruments.effective_field import EffectiveField, effective_fields
from deepforward.instruments.layer_outputs import feature_layers, outputs_of
from deepforward.instruments.linear_probe import linear_probes, pooled
from deepforward.instruments.occlusion import occlusion
from deepforward.instruments.receptive_field import receptive_fields
from deepforward.instruments.saliency import saliency
from deepforward.instruments.top_patches import top_patches
from deepforward.models.convolutional import LeNet5
from deepforward.models.residual import ResidualNetwork


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(1)
    return LeNet5((1, 12, 12), 4, channels=(3, 5)).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(10, 1, 12, 12, generator=torch.Generator().manual_seed(2))


def test_layers_are_read_behind_their_activation_and_named_by_call():
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            twice = self.relu(self.conv(self.relu(self.conv(inputs))))
            return self.head(torch.relu(self.conv(twice)).mean((2, 3)))

    found = feature_layers(Functional(), torch.rand(2, 4, 6, 6))
    assert [(layer.name, layer.weights) for layer in found] == [("relu", "conv"), ("relu#1", "conv#1"), ("conv#2", "conv#2")]
    assert all(layer.kind == "Conv2d" and layer.shape == (4, 6, 6) and layer.is_map for layer in found)
    names = [layer.name for layer in feature_layers(ResidualNetwork((3, 8, 8), 2, depth=8), torch.rand(2, 3, 8, 8))]
    assert names[:3] == ["stem.relu", "stage1.0.relu1", "stage1.0.relu2"]
    assert len(names) == 7


def test_outputs_are_those_of_the_model(model, images):
    inside = model.conv1(images)
    parts = list(outputs_of(model, images, ["conv1", "conv2.activation"], chunk=4))
    assert [part for part, _ in parts] == [slice(0, 4), slice(4, 8), slice(8, 10)]
    torch.testing.assert_close(torch.cat([seen["conv1"] for _, seen in parts]), inside, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("depth", "kernel"), [(1, 3), (4, 3), (3, 5)])
def test_equal_weights_have_the_effective_field_of_a_repeated_average(depth, kernel, rng):
    model = nn.Sequential(*(nn.Conv2d(1, 1, kernel, padding=kernel // 2) for _ in range(depth)))
    for layer in model:
        nn.init.constant_(layer.weight, 0.1)
    field = effective_fields(model, torch.rand(3, 1, 25, 25), [str(depth - 1)], rng)[str(depth - 1)]
    line = np.ones(1)
    for _ in range(depth):
        line = np.convolve(line, np.ones(kernel) / kernel)
    middle = slice(12 - len(line) // 2, 12 + len(line) // 2 + 1)
    np.testing.assert_allclose(field.influence[middle, middle], np.outer(line, line), rtol=1e-5)
    assert field.deviation == pytest.approx((np.sqrt(depth * (kernel**2 - 1) / 12),) * 2, rel=1e-5)
    held = np.sort(np.outer(line, line), axis=None)[::-1]
    assert held[: field.area].sum() >= 0.95 - 1e-9 > held[: field.area - 1].sum() - 1e-9


def test_the_area_holds_at_least_95_percent_with_the_fewest_pixels():
    assert EffectiveField("a", np.array([[0.5, 0.45], [0.03, 0.02]])).area == 2
    assert EffectiveField("a", np.array([[1.0, 0.0], [0.0, 0.0]])).size == 1.0


def test_channels_that_cancel_count_each_for_itself(rng):
    model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.ReLU())
    with torch.no_grad():
        model[0].weight[1] = -model[0].weight[0]
    field = effective_fields(model, torch.randn(256, 1, 7, 7), ["1"], rng)["1"]
    weights = model[0].weight[0, 0].abs().detach().double()
    np.testing.assert_allclose(field.influence[2:5, 2:5], weights / weights.sum(), rtol=0.01)


def test_of_a_linear_unit_the_best_image_is_its_filter_at_the_size_that_the_decay_allows(rng):
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    found = activation_maximization(model, (2, 7, 7), "1", [0, 2], rng, steps=300, rate=0.2, decay=0.1)
    for image, channel in zip(found, (0, 2), strict=True):
        weight = model[0].weight[channel].detach()
        torch.testing.assert_close(image[:, 2:5, 2:5], 1.8 * weight / weight.square().mean().sqrt(), rtol=1e-4, atol=1e-4)
        assert image[:, 0].abs().max() < 1e-4


def test_climbing_raises_the_answer_of_a_deep_unit_though_it_is_off(model, rng):
    def climb(**options) -> torch.Tensor:
        return activation_maximization(model, (1, 12, 12), "conv2.activation", range(5), rng, **options)

    def answers(images: torch.Tensor) -> torch.Tensor:
        return next(outputs_of(model, images, ["conv2.norm"]))[1]["conv2.norm"][range(5), range(5), 2, 2]

    start, sharp, smooth = climb(steps=1), climb(steps=40, jitter=1), climb(steps=40, blur=1.0)
    assert (answers(sharp) > answers(start)).all()
    assert smooth.diff(dim=3).square().mean() < 0.5 * sharp.diff(dim=3).square().mean()


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"decay": 1.0}, {"rate": 0.0}, {"blur": -1.0}, {"channels": [3]}])
def test_what_cannot_be_climbed_is_refused(wrong, model, rng):
    options = {"channels": [0], **wrong}
    with pytest.raises(InvalidOption, match="expected"):
        activation_maximization(model, (1, 12, 12), "conv1.conv", rng=rng, **options)


def test_top_patches_are_those_of_a_slow_search_and_cut_to_the_field(model, images):
    layer = "conv2.activation"
    found = top_patches(model, images, layer, count=3)
    output = next(outputs_of(model, images, [layer]))[1][layer]
    for channel in range(5):
        best = [max((float(maps[channel, r, c]), r, c) for r, c in itertools.product(range(6), range(6))) for maps in output]
        order = sorted(range(10), key=lambda i: -best[i][0])[:3]
        assert found.values[channel].tolist() == pytest.approx([best[i][0] for i in order])
        if best[order[-1]][0] > 0:
            assert found.examples[channel].tolist() == order
            assert found.places[channel].tolist() == [list(best[i][1:]) for i in order]


def test_a_patch_holds_all_that_its_unit_is_computed_from(model, images):
    """Put back alone on an empty image, the patch gives the answer of the whole one."""
    field = receptive_fields(model, images, ["conv1.conv"])["conv1.conv"]
    found = top_patches(model, images, "conv1.conv", count=4)
    patches = found.crop(images, field, [0, 1, 2])
    assert patches.shape == (3, 4, 1, 5, 5)
    answers = (patches * model.conv1.conv.weight[:, None]).sum((2, 3, 4))
    torch.testing.assert_close(answers, found.values, rtol=1e-5, atol=1e-5)


def test_a_field_larger_than_the_image_gives_whole_images(model, images):
    layer = "hidden3.activation"
    found = top_patches(model, images, layer, count=2)
    patches = found.crop(images, receptive_fields(model, images, [layer])[layer], [0])
    torch.testing.assert_close(patches[0], images[found.examples[0]])


def test_occlusion_is_the_mean_fall_over_the_squares(model, images):
    targets = torch.arange(10) % 4
    found = occlusion(model, images, targets, size=4, stride=3)
    before = model(images)
    falls, covers = torch.zeros(10, 12, 12), torch.zeros(12, 12)
    for top, left in itertools.product((0, 3, 6, 8), repeat=2):
        covered = images.clone()
        covered[:, :, top : top + 4, left : left + 4] = 0
        after = model(covered)
        for i in range(10):
            falls[i, top : top + 4, left : left + 4] += (before[i, targets[i]] - after[i, targets[i]]).detach()
        covers[top : top + 4, left : left + 4] += 1
    torch.testing.assert_close(found, falls / covers, rtol=1e-5, atol=1e-6)


def test_of_a_linear_model_occlusion_is_input_times_weight_and_saliency_the_weight(rng):
    model, image = nn.Sequential(nn.Flatten(), nn.Linear(2 * 5 * 5, 3)), torch.randn(4, 2, 5, 5)
    targets = torch.tensor([0, 1, 2, 0])
    weight = model[1].weight.detach()[targets].view(4, 2, 5, 5)
    torch.testing.assert_close(occlusion(model, image, targets, size=1), (image * weight).sum(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(saliency(model, image, targets, rng), weight.abs().amax(1))
    torch.testing.assert_close(saliency(model, image, targets, rng, samples=5, noise=1.0), weight.abs().amax(1))


def test_occlusion_and_saliency_agree_with_captum(model, images, rng):
    captum = pytest.importorskip("captum.attr")
    targets = torch.arange(10) % 4
    theirs = captum.Occlusion(model).attribute(images, (1, 3, 3), strides=(1, 1, 1), target=targets, baselines=0.0)
    torch.testing.assert_close(occlusion(model, images, targets, size=3), theirs[:, 0].float(), rtol=1e-4, atol=1e-5)
    theirs = captum.Saliency(model).attribute(images.clone().requires_grad_(), target=targets)
    torch.testing.assert_close(saliency(model, images, targets, rng), theirs[:, 0])


@pytest.mark.parametrize("options", [{"size": 13}, {"size": 3, "stride": 4}, {"size": 0}])
def test_a_square_that_does_not_fit_is_refused(options, model, images):
    with pytest.raises(InvalidOption, match="expected steps <= square <= 12"):
        occlusion(model, images, torch.zeros(10, dtype=torch.long), **options)


def test_a_probe_is_the_logistic_regression_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    inputs, targets = torch.randn(120, 1, 2, 3), torch.randint(3, (120,))
    found = linear_probes(model, (inputs[:80], targets[:80]), (inputs[80:], targets[80:]), ["2"], penalty=2.0)
    assert [(probe.layer, probe.features) for probe in found.values()] == [("input", 6), ("2", 5)]
    rows = model[2](model[1](model[0](inputs))).detach().double().numpy()
    rows = (rows - rows[:80].mean(0)) / rows[:80].std(0)
    theirs = LogisticRegression(C=0.5, tol=1e-3).fit(rows[:80], targets[:80]).predict(rows[80:])
    assert found["2"].wrong == tuple((theirs != targets[80:].numpy()).tolist())
    assert found["2"].error == pytest.approx(np.mean(found["2"].wrong))


def test_a_probe_sees_what_no_line_parts_once_a_layer_has_parted_it():
    """Exclusive or: at chance on the input, free of error behind the hidden layer that solves it."""
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).repeat(100, 1)
    inputs = corners + 0.1 * torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    targets = (inputs.prod(1) > 0).long()
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
        model[0].bias.zero_()
    found = linear_probes(model, (inputs[:200], targets[:200]), (inputs[200:], targets[200:]), ["1"])
    assert found["input"].error >= 0.24  # a line parts three corners from the fourth at best
    assert found["1"].error < 0.01


def test_maps_are_averaged_over_as_few_squares_as_the_limit_asks():
    maps = torch.rand(2, 4, 12, 12)
    assert pooled(maps, 10_000).shape == (2, 576)
    torch.testing.assert_close(pooled(maps, 4 * 9), nn.functional.avg_pool2d(maps, 4).flatten(1))
    assert pooled(maps, 2).shape == (2, 4)
    with pytest.raises(InvalidData, match="fewer than two classes"):
        linear_probes(nn.Identity(), (torch.rand(2, 3), torch.zeros(2).long()), (torch.rand(2, 3), torch.zeros(2).long()), [])


def test_looking_leaves_no_trace(model, images, rng):
    model.train()
    model.conv1.conv.weight.grad = torch.ones_like(model.conv1.conv.weight)
    before, state, targets = copy.deepcopy(model.state_dict()), torch.get_rng_state(), torch.arange(10) % 4
    layers = [layer.name for layer in feature_layers(model, images)]
    receptive_fields(model, images, layers)
    effective_fields(model, images, layers, rng)
    activation_maximization(model, (1, 12, 12), "conv2.activation", [0], rng, steps=2)
    top_patches(model, images, "conv1")
    occlusion(model, images, targets, size=4, stride=4)
    saliency(model, images, targets, rng)
    linear_probes(model, (images, targets), (images, targets), layers)
    assert all(module.training for module in model.modules())
    assert all(not (m._forward_hooks or m._forward_pre_hooks) for m in model.modules())
    assert torch.equal(model.conv1.conv.weight.grad, torch.ones_like(model.conv1.conv.weight))
    assert [p.requires_grad for p in model.parameters()] == [True] * len(list(model.parameters()))
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name

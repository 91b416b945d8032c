"""The fused batch normalisation against torch's own, in float64 where rounding matters."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepforward.data import load
from deepforward.engine import Recipe, checkpoint, fit, training
from deepforward.engine.assembly import assemble
from deepforward.engine.step import Stepper
from deepforward.errors import NoEffect
from deepforward.layers import compilation, fused_normalization
from deepforward.layers.fusion import Fused, fuse
from deepforward.models.residual import resnet20

# float32: sums of a few thousand numbers, float64 between blocks. bfloat16: half a unit in the last of 8 bits is 2^-9; torch
# rounds between the steps that are one here, and a rounded output may fall on the other side of the ReLU.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 6e-3}


@pytest.fixture(scope="module", autouse=True)
def built(tmp_path_factory):
    """The kernel, compiled into an empty cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("CXX", raising=False)
        forget()
        if fused_normalization.kernel() is None:
            pytest.skip("needs a C++ compiler")
        yield
    forget()


def forget():
    compilation.compiled.cache_clear()
    fused_normalization.kernel.cache_clear()


def draw(*shape, seed=0):
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return numbers.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else numbers


class Unit(nn.Module):
    """[norm -> (+ residual) -> ReLU] written in one of the usual ways."""

    def __init__(self, channels, way="module", **options):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, **options)
        self.relu = nn.ReLU(inplace=way == "in place")
        self.way = way
        with torch.no_grad():
            self.norm.weight.copy_(0.5 + draw(channels, seed=7).abs())
            self.norm.bias.copy_(draw(channels, seed=8))

    def forward(self, x, residual=None):
        y = self.norm(x)
        if residual is not None:
            if self.way == "in place":
                y += residual
            else:
                y = residual + y if self.way == "function" else y + residual
        return F.relu(y) if self.way == "function" else self.relu(y)


def example(channels, height, dtype, residual, batch=6):
    x = (2 * draw(batch, channels, height, height) + 5).to(dtype)
    shortcut = draw(batch, channels, height, height, seed=1).to(dtype) if residual else None
    return x, shortcut, draw(batch, channels, height, height, seed=2).to(dtype)


def run(module, unit, x, residual, gradient):
    """Outputs, gradients and statistics of one training pass."""
    x = x.detach().clone().requires_grad_()
    residual = None if residual is None else residual.detach().clone().requires_grad_()
    y = module(x, residual)
    y.backward(gradient.to(y.dtype))
    norm = unit.norm
    found = {"output": y, "input gradient": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    found |= {"mean": norm.running_mean, "variance": norm.running_var}
    if residual is not None:
        found["residual gradient"] = residual.grad
    return {name: tensor.detach().double() for name, tensor in found.items() if tensor is not None}


def distance(one, other):
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("way", ["module", "function", "in place"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("channels", "height"), [(16, 8), (16, 7), (32, 5), (48, 4), (64, 3), (128, 3)])
def test_outputs_gradients_and_statistics_are_torchs(dtype, way, residual, channels, height):
    given = example(channels, height, dtype, residual, batch=5)
    unit = Unit(channels, way)
    exact = copy.deepcopy(unit).double()
    got = run(Fused(unit), unit, *given)
    expected = run(exact, exact, *(None if t is None else t.double() for t in given))
    assert got.keys() == expected.keys()
    far = {name: distance(got[name], expected[name]) for name in got}
    assert max(far.values()) < TOLERANCE[dtype], far
    assert unit.norm.num_batches_tracked == 1


@pytest.mark.parametrize("options", [{"momentum": None}, {"momentum": 0.5}, {"track_running_stats": False}, {"eps": 0.1}])
def test_options_of_the_norm_keep_their_meaning(options):
    given = example(16, 4, torch.float32, residual=True)
    unit = Unit(16, **options)
    plain = copy.deepcopy(unit)
    for scale in (1, 3):
        got, expected = (run(m, u, scale * given[0], *given[1:]) for m, u in ((Fused(unit), unit), (plain, plain)))
        assert all(distance(got[name], expected[name]) < 2e-6 for name in expected)


def test_two_threads_give_what_one_gives_and_repeat_their_bits():
    x, residual, gradient = example(32, 9, torch.bfloat16, residual=True)

    def result():
        unit = Unit(32)
        return run(Fused(unit), unit, x, residual, gradient)

    one = result()
    torch.set_num_threads(2)
    try:
        two, again = result(), result()
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(two[name], again[name]) for name in two)
    assert all(distance(two[name], one[name]) < 1e-3 for name in two)


@pytest.mark.parametrize(
    "layout", [lambda x: x.contiguous(), lambda x: x.transpose(2, 3), lambda x: x[:, :, :, :1].expand_as(x), lambda x: x[::2]]
)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_any_memory_layout_is_taken_and_kept(layout, which):
    given = list(example(16, 6, torch.float32, residual=True))
    given = [layout(t) if position == which or layout(t).shape != t.shape else t for position, t in enumerate(given)]
    unit = Unit(16)
    plain = copy.deepcopy(unit)
    assert Fused(copy.deepcopy(unit))(*given[:2]).stride() == copy.deepcopy(unit)(*given[:2]).stride()
    got, expected = run(Fused(unit), unit, *given), run(plain, plain, *given)
    assert all(distance(got[name], expected[name]) < 2e-6 for name in expected)


def test_not_a_number_passes_through_the_relu():
    x, *_ = example(16, 4, torch.bfloat16, residual=False)
    x[0, 3, 0, 0] = float("nan")
    unit = Unit(16)
    broken = Fused(unit)(x).isnan().flatten(2).all(2).all(0)
    assert broken.tolist() == [channel == 3 for channel in range(16)]


@pytest.mark.parametrize(
    ("channels", "prepare"), [(24, lambda unit: unit), (16, lambda unit: unit.eval()), (16, lambda unit: unit.double())]
)
def test_what_the_kernel_does_not_cover_is_torchs_to_the_bit(channels, prepare):
    x, residual, gradient = example(channels, 4, torch.float32, residual=True)
    unit = prepare(Unit(channels))
    plain = copy.deepcopy(unit)
    given = [t.to(unit.norm.weight.dtype) for t in (x, residual, gradient)]
    got, expected = run(Fused(unit), unit, *given), run(plain, plain, *given)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


class Odd(nn.Module):
    """Does to the output of a norm what networks rarely do."""

    def __init__(self, use):
        super().__init__()
        self.norm, self.use = nn.BatchNorm2d(16), use

    def forward(self, x):
        return self.use(self.norm(x), x)


def written(y, x):
    y.permute(0, 2, 3, 1).view(-1).mul_(-1)
    return F.relu(y)


def added_twice(y, x):
    z = y
    y += x
    return F.relu(z) + F.relu(y + x)


@pytest.mark.parametrize(
    "use",
    [
        lambda y, x: y,
        lambda y, x: F.gelu(y) * y,
        lambda y, x: torch.relu(torch.add(x, y)) + y,
        lambda y, x: F.relu(y + 1.0) + F.relu(y, inplace=True) + y,
        lambda y, x: (y + y).relu().sum((2, 3)),
        lambda y, x: {"a": [torch.cat([y, x]), y.shape[0] * x]}["a"][0],
        written,
        added_twice,
    ],
)
def test_whatever_is_done_with_the_output_is_computed_right(use):
    x = example(16, 4, torch.float32, residual=False)[0]
    model = Odd(use)
    plain = copy.deepcopy(model)
    results = []
    for module in (Fused(model), plain):
        inputs = x.clone().requires_grad_()
        outputs = module(inputs)
        outputs.square().sum().backward()
        results.append((outputs.detach(), inputs.grad))
    assert all(torch.allclose(one, other, rtol=1e-4, atol=2e-4) for one, other in zip(*results, strict=True))


def test_what_changes_under_a_promise_is_an_error_not_a_wrong_number():
    def use(y, x):
        total = y + x
        x.zero_()
        return F.relu(total)

    with pytest.raises(RuntimeError, match="changed in place"):
        Fused(Odd(use))(example(16, 4, torch.float32, residual=False)[0])


def test_second_derivatives_are_refused_not_wrong():
    x = example(16, 4, torch.float32, residual=False)[0].requires_grad_()
    (gradient,) = torch.autograd.grad(Fused(Unit(16))(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def small_resnet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return resnet20((3, 8, 8), 10).to(memory_format=torch.channels_last)


def train(module, model, steps=20, rate=0.05):
    """Losses under bf16 autocast on one repeated batch."""
    x = draw(32, 3, 8, 8)
    targets = torch.arange(32) % 10
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    losses = []
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(module(x).float(), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_resnet_learns_along_the_same_curve():
    model = small_resnet().train()
    plain = copy.deepcopy(model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fused = fuse(model, draw(4, 3, 8, 8))
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    got, expected = train(fused, model), train(plain, plain)
    assert expected[-1] < 0.3 * expected[0]
    assert got[0] == pytest.approx(expected[0], rel=0.01)
    # Rounding differs in the third digit, and 20 steps at this rate multiply it.
    assert sum(got) == pytest.approx(sum(expected), rel=0.05)
    assert list(model.state_dict()) == list(state)
    assert model.stem.norm.num_batches_tracked == 20


def test_hooks_see_outputs_and_gradients_and_change_no_bits():
    bits, seen, gradients = [], {}, {}
    for hooked in (False, True):
        model = small_resnet().train()
        fused = fuse(model, draw(4, 3, 8, 8))
        if hooked:

            def look(module, inputs, output):
                if isinstance(module, nn.BatchNorm2d):
                    seen[module] = output.float().mean()  # a promise acts as a tensor
                else:
                    seen[module] = output.detach()
                    output.register_hook(lambda gradient: gradients.__setitem__(module, gradient))

            for module in model.modules():
                if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Sequential)) or module is model:
                    module.register_forward_hook(look)
        train(fused, model, steps=3)
        bits.append(model.state_dict())
    assert all(torch.equal(bits[0][name], bits[1][name]) for name in bits[0])
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    assert {*relus, model, model.stage1} <= seen.keys()
    assert all(seen[relu].min() == 0 and 0 < (seen[relu] > 0).float().mean() < 1 for relu in relus)
    assert all(gradients[relu].shape == seen[relu].shape and gradients[relu].any() for relu in relus)


def test_control_flow_and_attributes_stay_the_models():
    class Moody(nn.Module):
        def __init__(self):
            super().__init__()
            self.unit, self.calls = Unit(16), 0

        def forward(self, x):
            self.calls += 1
            return self.unit(x) if self.calls % 2 else x

    model = Moody()
    x = draw(4, 16, 4, 4)
    fused = fuse(model, x)
    before = model.calls
    given, processed = fused(x), fused(x)
    assert torch.equal(given, x)
    assert not torch.equal(processed, x)
    assert fused.calls == before + 2
    assert fused.unit is model.unit


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nn.Linear(4, 4), "without batch normalisation"),
        (lambda: nn.BatchNorm2d(3), "multiple of 16 channels"),
        (lambda: nn.BatchNorm2d(16, affine=False), "multiple of 16 channels"),
        (lambda: Odd(lambda y, x: -y), "fails when fused"),
    ],
)
def test_nothing_to_fuse_is_said_in_one_line(model, message):
    built = model()
    with pytest.raises(NoEffect, match=message) as caught:
        fuse(built, draw(4, getattr(built, "num_features", 16), 4, 4))
    assert "\n" not in str(caught.value)


def test_without_a_compiler_nothing_is_fused(monkeypatch):
    forget()
    monkeypatch.setenv("CXX", "no-such-compiler")
    try:
        with pytest.raises(NoEffect, match="no working C\\+\\+ compiler"):
            fuse(Unit(16), draw(4, 16, 4, 4))
    finally:
        forget()


def test_processes_that_compile_at_once_all_get_the_library(tmp_path):
    source = tmp_path / "one.cpp"
    source.write_text('extern "C" int one() { return 1; }')
    code = f"""
from pathlib import Path
from deepforward.layers.compilation import compiled
library = compiled(Path({str(source)!r}))
print(library.one(), compiled(Path("missing.cpp")))
"""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in started] == ["1 None"] * 2
    assert [path.suffix for path in Path(tmp_path, "cache", "deepforward", "kernels").iterdir()] == [".so"]


FACTORY = """
from torch import nn

def factory(num_outputs):
    convolutions = [nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(256, num_outputs))
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "images.py").write_text(FACTORY)
    return Recipe(model=f"{tmp_path}/images.py:factory", epochs=2, batch_size=256, precision="bf16", fuse="on", validation=0.0)


def weights(folder):
    return checkpoint.load(folder / "checkpoints", "newest")[0]


def test_a_fused_run_saves_what_a_plain_one_saves_and_resumes_to_the_bit(recipe, tmp_path, monkeypatch):
    whole = fit(recipe, tmp_path / "whole", quiet=True)
    plain = fit(recipe.replace(fuse="off"), tmp_path / "plain", quiet=True)
    assert (whole.result["arithmetic"]["fuse"], plain.result["arithmetic"]["fuse"]) == (True, False)
    assert weights(whole.folder).keys() == weights(plain.folder).keys()
    assert whole.history[-1]["train/loss"] == pytest.approx(plain.history[-1]["train/loss"], rel=0.02)
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    original, steps = Stepper.step, []

    def dying(self, *arguments, **options):
        steps.append(original(self, *arguments, **options))
        if len(steps) == 8:
            raise KeyboardInterrupt
        return steps[-1]

    monkeypatch.setattr(Stepper, "step", dying)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "broken", quiet=True)
    fit(recipe, tmp_path / "broken", resume=True, quiet=True)
    unwatched = fit(recipe.replace(probe_budget=0.0), tmp_path / "unwatched", quiet=True)
    expected = weights(whole.folder)
    for run in (tmp_path / "broken", unwatched.folder):
        assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(run).items() if "model" in name)
    assert {"2#0", "5#0"} <= {*whole.readings.layers}  # the ReLUs


@pytest.mark.parametrize(
    ("changes", "fused"),
    [
        ({"epochs": 1600}, True),
        ({"epochs": 800}, False),
        ({"epochs": 1600, "precision": "fp32"}, False),
        ({"epochs": 1600, "channels_last": "off"}, False),
        ({"epochs": 1, "fuse": "on", "precision": "fp32"}, True),
        ({"epochs": 1600, "fuse": "off"}, False),
        ({"epochs": 1600, "model": "perceptron"}, False),
    ],
)
def test_auto_fuses_long_runs_on_images_in_bf16(recipe, changes, fused):
    data = load("digits")
    assert 800 * len(data.train) * 64 < 1e8 <= 1600 * len(data.train) * 64
    parts = assemble(recipe.replace(**{"fuse": "auto", **changes}).complete(), data)
    assert parts.arithmetic.fuse is fused
    assert isinstance(parts.forward, Fused) is fused
    assert fused or parts.forward is parts.model


def test_a_recipe_that_insists_says_why_it_cannot(recipe):
    with pytest.raises(NoEffect, match="without batch normalisation"):
        assemble(recipe.replace(model="perceptron").complete(), load("digits"))

"""Modules that hide behind wrappers: seen as if they did not, or said to be unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hostile_modules import VisionTransformer
from torch import Tensor, nn

from deepforward.errors import InvalidModel, ProbeWarning
from deepforward.instruments import Probe, Readings, examine, locate_nonfinite
from deepforward.instruments.layer_hooks import kind_of
from deepforward.instruments.wrappers import plain_name, unwrapped

# While it compiles, torch asks inputs that are no leaves for their gradient, and warns of that.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

BATCH = torch.linspace(-1, 1, 72).reshape(12, 6)


def build(middle: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), middle(), nn.Sequential(nn.Linear(8, 8), nn.ReLU()), nn.Linear(8, 3))


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().mean()


def wrapped(model: nn.Sequential) -> nn.Module:
    return torch.compile(model, backend="eager")


def in_place(model: nn.Sequential) -> nn.Module:
    model.compile(backend="eager")
    return model


def in_part(model: nn.Sequential) -> nn.Module:
    model[2] = torch.compile(model[2], backend="eager")
    return model


WRAPPERS = {"compiled": wrapped, "compiled in place": in_place, "compiled in part": in_part, "parallel": nn.DataParallel}


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    yield
    torch.compiler.reset()


def same(a: Readings, b: Readings) -> bool:
    equal = all(np.array_equal(a.values[name], b.values[name], equal_nan=True) for name in b.values)
    return (a.layers, a.kinds, a.values.keys()) == (b.layers, b.kinds, b.values.keys()) and equal


@pytest.mark.parametrize("name", WRAPPERS)
def test_own_passes_see_what_is_inside_a_wrapper_that_was_run_before(name: str) -> None:
    model = WRAPPERS[name](build())
    before = loss(model, BATCH)
    assert same(examine(model, [BATCH], loss), examine(build(), [BATCH], loss))
    assert torch.equal(loss(model, BATCH), before)


def test_own_passes_see_what_a_compiled_function_calls() -> None:
    model = build()
    compiled = torch.compile(lambda batch: loss(model, batch), backend="eager")
    compiled(BATCH)
    assert same(examine(model, [BATCH], lambda _, batch: compiled(batch)), examine(build(), [BATCH], loss))


class Log(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x)


@pytest.mark.parametrize("name", WRAPPERS)
def test_what_is_not_finite_is_located_inside_a_wrapper(name: str) -> None:
    model = WRAPPERS[name](build(Log))
    loss(model, BATCH)
    assert locate_nonfinite(model, lambda: loss(model, BATCH)) == {"layer": "1#0", "kind": "Log", "place": "output"}


def train(model: nn.Module, step: Callable[[Tensor], Tensor]) -> Readings:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, optimizer=optimizer, budget=None) as probe:
        for _ in range(2):
            step(BATCH).backward()
            optimizer.step()
            optimizer.zero_grad()
    return probe.readings()


def test_the_probe_looks_through_data_parallelism_on_one_device() -> None:
    model, inner = nn.DataParallel(build()), build()
    seen, expected = train(model, lambda batch: loss(model, batch)), train(inner, lambda batch: loss(inner, batch))
    assert same(seen, expected)
    assert seen.layers == ("0#0", "1#0", "2.0#0", "2.1#0", "3#0")


def test_the_probe_says_that_copies_on_several_devices_are_not_seen() -> None:
    model = nn.DataParallel(build())
    model.device_ids = [0, 1]  # as it is where there are two
    with pytest.warns(ProbeWarning, match="several devices"), Probe(model):
        pass


def test_the_probe_says_that_a_compiled_function_hides_the_model_and_reads_parameters() -> None:
    model = build()
    step = torch.compile(lambda batch: loss(model, batch), backend="eager")
    step(BATCH)
    with pytest.warns(ProbeWarning, match="called inside a compiled function"):
        seen = train(model, step)
    assert seen.layers == ("0#0", "2.0#0", "3#0")
    assert np.isfinite(seen.values["update_ratio"]).all()


@pytest.mark.parametrize("look", [Probe, lambda model: examine(model, [BATCH], loss)], ids=["probe", "examine"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused(look: Callable[[nn.Module], Any]) -> None:
    with pytest.raises(InvalidModel, match="got a TorchScript module"):
        look(torch.jit.trace(build(), BATCH))
    with pytest.raises(InvalidModel, match="got a TorchScript module '2'"):
        look(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), torch.jit.trace(nn.Linear(8, 3), torch.zeros(1, 8))))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (lambda model, batch: model(batch), r"got a tensor of shape \(12, 3\) and torch.float32 as a loss"),
        (lambda model, batch: model(batch).sum().item(), "got float as a loss"),
        (lambda model, batch: model(batch).sum() * 1j, "got a tensor of shape .* and torch.complex64 as a loss"),
        (lambda model, batch: model(batch).detach().sum(), "depends on no parameter"),
    ],
)
def test_a_loss_that_cannot_be_followed_back_is_refused(bad: Callable[..., Any], says: str) -> None:
    with pytest.raises(InvalidModel, match=says):
        examine(build(), [BATCH], bad)


def test_names_and_kinds_are_those_without_wrapping() -> None:
    model = build()
    assert unwrapped(nn.DataParallel(wrapped(model))) is model
    assert (plain_name("a._orig_mod.b"), plain_name("a._orig_mod"), plain_name("a.b")) == ("a.b", "a", "a.b")

    class Affine(nn.Linear):
        pass

    normed = nn.utils.parametrizations.weight_norm(Affine(2, 2))
    assert [kind_of(m) for m in (nn.ReLU6(), Affine(2, 2), normed, Log(), VisionTransformer())] == [
        "ReLU6", "Linear", "Linear", "Log", "VisionTransformer",
    ]  # fmt: skip


def test_buffers_that_appear_during_a_pass_are_taken_away_again() -> None:
    class Caches(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.register_buffer("cache", x.detach().clone())
            return super().forward(x)

    model = Caches(6, 3)
    examine(model, [BATCH], loss)
    assert not list(model.buffers()) and "cache" not in model.state_dict()

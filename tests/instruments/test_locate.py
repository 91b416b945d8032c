"""The first producer of a non-finite number is named, never a victim: one planted fault for each place it can have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deepforward.instruments import NonFinite, Probe, locate_nonfinite


class Log(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x)


class SquareRoot(nn.Module):
    """Finite at zero, with an infinite derivative."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sqrt(x * (x > 0))


class FunctionalFault(nn.Module):
    def __init__(self, fault: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.before, self.after, self.fault = nn.Linear(4, 4), nn.Linear(4, 4), fault

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.fault(self.before(x)))


class Forked(nn.Module):
    """A residual branch whose gradient breaks, beside a skip whose gradient does not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.healthy, self.sick, self.head = nn.Linear(4, 4), nn.Tanh(), SquareRoot(), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.healthy(x) + self.sick(x))


def stack(*middle: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), *middle, nn.Linear(4, 4), nn.Linear(4, 1))


def with_bad(model: nn.Module, name: str, value: float = float("nan")) -> nn.Module:
    with torch.no_grad():
        dict([*model.named_parameters(), *model.named_buffers()])[name].view(-1)[0] = value
    return model


def zero(x: Tensor) -> Tensor:
    return x * 0.0


BATCH = torch.linspace(-1, 1, 24).reshape(6, 4)
POISONED = BATCH.clone()
POISONED[3, 2] = float("nan")

FAULTS: dict[str, tuple[nn.Module, Tensor, tuple[str, str, str]]] = {
    "output of a leaf": (stack(Log()), BATCH, ("2#0", "Log", "output")),
    "output of the second of two": (stack(Log(), Log()), BATCH, ("2#0", "Log", "output")),
    "batch": (stack(), POISONED, ("input", "", "input")),
    "parameter": (with_bad(stack(), "2.weight"), BATCH, ("2#0", "Linear", "parameter")),
    "infinite parameter": (with_bad(stack(), "3.bias", float("inf")), BATCH, ("3#0", "Linear", "parameter")),
    "buffer": (with_bad(stack(nn.BatchNorm1d(4)), "2.running_var").eval(), BATCH, ("2#0", "BatchNorm1d", "output")),
    "between modules": (FunctionalFault(torch.log), BATCH, ("FunctionalFault#0", "FunctionalFault", "output")),
    "between modules of a block": (stack(FunctionalFault(torch.log)), BATCH, ("2#0", "FunctionalFault", "output")),
    "gradient of a leaf": (stack(SquareRoot()), BATCH, ("2#0", "SquareRoot", "gradient")),
    "gradient of one branch": (Forked(), BATCH, ("sick#0", "SquareRoot", "gradient")),
    "gradient between modules": (
        stack(FunctionalFault(lambda x: zero(x).sqrt())), BATCH, ("2#0", "FunctionalFault", "gradient")
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_the_producer_is_named(fault: str) -> None:
    model, batch, expected = FAULTS[fault]
    origin = locate_nonfinite(model, lambda: model(batch).square().mean())
    assert origin is not None
    assert (origin["layer"], origin["kind"], origin["place"]) == expected


def test_the_loss_is_named_when_the_model_is_innocent() -> None:
    model = stack()
    assert locate_nonfinite(model, lambda: model(BATCH).mul(0).log().mean()) == {"layer": "loss", "kind": "", "place": "output"}
    origin = locate_nonfinite(model, lambda: model(BATCH).mul(0).sqrt().mean())
    assert origin == {"layer": "loss", "kind": "", "place": "gradient"}


def test_a_call_of_a_shared_module_is_told_apart() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log = Log()

        def forward(self, x: Tensor) -> Tensor:
            return self.log(self.log(x) - 1)

    model = Twice()
    origin = locate_nonfinite(model, lambda: model(torch.full((2, 2), 2.0)).sum())
    assert origin == {"layer": "log#1", "kind": "Log", "place": "output"}


def test_a_healthy_batch_has_no_origin() -> None:
    model = stack(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.ReLU(inplace=True))
    assert locate_nonfinite(model, lambda: model(BATCH).square().mean()) is None


def diverge(model: nn.Module, batch: Tensor, steps: int = 3) -> Probe:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, NonFinite(), optimizer=optimizer, budget=None, first_step=10) as probe:
        for _ in range(steps):
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
    return probe


@pytest.mark.parametrize(
    ("model", "layer", "place"),
    [
        (stack(Log()), "2#0", "output"),
        (with_bad(stack(), "2.weight"), "2#0", "parameter"),
        (stack(SquareRoot()), "2#0", "gradient"),
    ],
    ids=["output", "parameter", "gradient"],
)
def test_a_sampled_step_shows_the_first_place(model: nn.Module, layer: str, place: str) -> None:
    """From norms alone, without a replay."""
    (origin,) = diverge(model, BATCH).readings().origins
    assert (origin["step"], origin["layer"], origin["place"]) == (10, layer, place)


def test_the_replay_enters_the_readings_with_its_step() -> None:
    model = stack()
    probe = diverge(model, BATCH)
    assert probe.readings().origins == ()
    with_bad(model, "3.weight")
    assert probe.locate(lambda: model(BATCH).mean()) == {"layer": "3#0", "kind": "Linear", "place": "parameter"}
    assert probe.readings().origins == ({"step": 13, "layer": "3#0", "kind": "Linear", "place": "parameter"},)


def test_a_replay_inside_a_sampled_step_disturbs_nothing() -> None:
    model = stack()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, optimizer=optimizer, budget=None) as probe:
        loss = model(BATCH).square().mean()
        assert probe.sampling and probe.locate(lambda: model(BATCH).square().mean()) is None and not probe.sampling
        loss.backward()
        optimizer.step()
        assert probe.sampling and probe.step == 1
    assert probe.readings().steps == ()


def test_a_replay_is_no_step_of_a_loop_told_by_forward_calls() -> None:
    model = stack()
    with Probe(model, budget=None) as probe:
        model(BATCH).mean().backward()
        assert probe.locate(lambda: model(POISONED).mean()) == {"layer": "input", "kind": "", "place": "input"}
        assert probe.step == 0
        model(BATCH).mean().backward()
    assert probe.step == 1 and [origin["step"] for origin in probe.readings().origins] == [0]


def test_large_finite_numbers_are_no_alarm() -> None:
    """1e30 squared overflows float32; its norm, summed in float64, does not."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    for layer in model:
        nn.init.constant_(layer.weight, 1e15)
    readings = diverge_free(model)
    assert readings.origins == () and readings.values["activation_rms"][0, 1] == pytest.approx(1e30, rel=1e-5)


def diverge_free(model: nn.Module):
    with Probe(model, NonFinite(), budget=None) as probe:
        model(torch.ones(3, 1)).sum().backward()
    return probe.readings()

"""Every number equals a slow oracle: outputs caught without hooks, gradients by autograd.grad, all in float64."""

from __future__ import annotations

import copy
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hostile_modules import PATIENTS, Patient
from torch import Tensor, nn

from deepforward.instruments import DeadUnits, GradientFlow, Probe, Saturation, examine
from deepforward.instruments.layer_hooks import first_tensor, layers_of, own_parameters

RATE = 0.1
#: Float64 sums in another order; the networks are small.
CLOSE = {"rtol": 1e-10, "atol": 1e-300}
#: A weight after a step less the one before is known to a rounding of the weight.
ROUNDING = 2.3e-16
#: Autocast would lower the oracle's precision too; a reentrant checkpoint hides its gradients from every observer.
EXACT = [name for name in PATIENTS if name not in ("bfloat16", "checkpointed, reentrant")]


def oracle(patient: Patient, model: nn.Module, rows: int | None = None) -> dict[str, dict[str, float]]:
    """One step of gradient descent, looked at by replacing `forward` and asking autograd for each gradient by name."""
    twin, caught, counts = copy.deepcopy(model), {}, Counter()
    for module in twin.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # mathematically the same, and outputs stay what they were
    for name, module in layers_of(twin).items():

        def forward(*inputs: object, _name: str = name, _forward=module.forward, **named: object) -> object:
            out = _forward(*inputs, **named)
            key = f"{_name}#{counts[_name]}"
            counts[_name] += 1
            if first_tensor(out) is not None:
                caught.setdefault(key, first_tensor(out))
            # What is done in place to an output must not reach the one that was caught.
            return out.clone() if isinstance(out, Tensor) else out

        module.forward = forward
    loss = patient.loss(twin, patient.batch().double())
    outputs = dict(caught)
    trained = {name: p for name, p in twin.named_parameters() if p.requires_grad}
    wanted = {key: out for key, out in outputs.items() if out.requires_grad}
    found = torch.autograd.grad(loss, [*wanted.values(), *trained.values()], allow_unused=True)
    of_outputs, of_parameters = dict(zip(wanted, found, strict=False)), dict(zip(trained, found[len(wanted) :], strict=True))
    layers: dict[str, dict[str, float]] = {}
    for key, out in outputs.items():
        seen = slice(None, rows if out.dim() >= 4 else None)
        layers[key] = {"activation_rms": mean_root(out[seen])}
        if of_outputs.get(key) is not None:
            layers[key]["gradient_rms"] = mean_root(of_outputs[key][seen])
    gradient_of = {id(p): of_parameters[name] for name, p in trained.items()}
    for name, module in layers_of(twin).items():
        own = [p for p in own_parameters(module) if p.requires_grad]
        gradients = [gradient_of[id(p)] for p in own if gradient_of[id(p)] is not None]
        if own and (gradients or f"{name}#0" in layers):
            weights = torch.cat([numbers_of(p) for p in own])
            numbers = layers.setdefault(f"{name}#0", {})
            norm = math.sqrt(sum(float(g.abs().square().sum()) for g in gradients))
            numbers["parameter_rms"] = mean_root(weights)
            if gradients:
                numbers["parameter_gradient_norm"] = norm
            if weights.any():
                numbers["update_ratio"] = RATE * norm / float(weights.detach().norm())
    return layers


def numbers_of(tensor: Tensor) -> Tensor:
    """All real numbers in it, of which a complex one has two."""
    return torch.cat([tensor.real.flatten(), tensor.imag.flatten()]) if tensor.is_complex() else tensor.flatten()


def mean_root(tensor: Tensor) -> float:
    numbers = numbers_of(tensor.detach())
    return math.sqrt(sum(x * x for x in numbers.tolist()) / numbers.numel())


def table(readings, step: int = 0) -> dict[str, dict[str, float]]:
    return {
        layer: {name: array[step, i] for name, array in readings.values.items() if not np.isnan(array[step, i])}
        for i, layer in enumerate(readings.layers)
    }


def assert_same(got: dict[str, dict[str, float]], expected: dict[str, dict[str, float]]) -> None:
    assert {layer: set(numbers) for layer, numbers in got.items()} == {layer: set(n) for layer, n in expected.items()}
    for layer, numbers in expected.items():
        for name, number in numbers.items():
            close = CLOSE | {"atol": ROUNDING} if name == "update_ratio" else CLOSE
            np.testing.assert_allclose(got[layer][name], number, err_msg=f"{layer} {name}", **close)


@pytest.mark.parametrize("watch", ["optimizer", "forward calls"])
@pytest.mark.parametrize("name", EXACT)
def test_flow_equals_the_oracle(name: str, watch: str) -> None:
    patient, model = PATIENTS[name], PATIENTS[name].model().double()
    torch.manual_seed(5)
    expected = oracle(patient, model, rows=16)
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=RATE)
    torch.manual_seed(5)
    with Probe(model, GradientFlow(), optimizer=optimizer if watch == "optimizer" else None, budget=None) as probe:
        patient.loss(model, patient.batch().double()).backward()
        optimizer.step()
    assert_same(table(probe.readings()), expected)


@pytest.mark.parametrize("name", EXACT)
def test_own_passes_see_all_rows_and_no_update(name: str) -> None:
    patient, model = PATIENTS[name], PATIENTS[name].model().double()
    torch.manual_seed(5)
    expected = oracle(patient, model)
    torch.manual_seed(5)
    readings = examine(model, [patient.batch().double()], patient.loss, GradientFlow())
    for numbers in expected.values():
        numbers.pop("update_ratio", None), numbers.pop("parameter_rms", None)
    assert_same(table(readings), {layer: numbers for layer, numbers in expected.items() if numbers})


def test_layers_stand_in_forward_order_with_a_key_for_each_call() -> None:
    patient = PATIENTS["shared ReLU"]
    readings = examine(patient.model(), [patient.batch()], patient.loss)
    assert readings.layers == ("first#0", "relu#0", "second#0", "relu#1", "third#0")
    assert readings.kinds == ("Linear", "ReLU", "Linear", "ReLU", "Linear")
    assert readings.steps == (0,)


def test_float32_gradients_too_small_to_square_are_read() -> None:
    """Elements of 1e-30 have squares that are zero in float32; the chain rule gives them exactly."""
    model = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(4)))
    for layer in model:
        nn.init.constant_(layer.weight, 1e-10)
    readings = examine(model, [torch.full((1, 1), 1e30)], lambda model, x: model(x).sum(), GradientFlow())
    np.testing.assert_allclose(readings.values["gradient_rms"][0], [1e-30, 1e-20, 1e-10, 1.0], rtol=1e-5)
    np.testing.assert_allclose(readings.values["parameter_gradient_norm"][0], [1.0] * 4, rtol=1e-5)
    scaled = examine(model, [torch.full((1, 1), 1.0)], lambda model, x: model(x).sum(), GradientFlow())
    np.testing.assert_allclose(scaled.values["parameter_gradient_norm"][0], [1e-30] * 4, rtol=1e-5)


def test_updates_of_large_layers_are_measured_on_their_first_rows() -> None:
    """A copy of everything would cost as much memory as the model: 16 384 elements in whole rows are enough."""
    model = nn.Linear(1000, 64, bias=False).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    before = model.weight.detach()[:16].clone()
    with Probe(model, GradientFlow(), optimizer=optimizer) as probe:
        model(torch.ones(2, 1000, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
    ratio = (model.weight.detach()[:16] - before).norm() / before.norm()
    np.testing.assert_allclose(probe.readings().values["update_ratio"], [[float(ratio)]], rtol=1e-12)


RECTIFYING = [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Threshold(0.1, -3.0)]
FLAT = [*RECTIFYING, nn.Hardtanh(-0.5, 0.25), nn.Hardsigmoid(), nn.Hardshrink(), nn.Softshrink()]


def slope(activation: nn.Module, inputs: Tensor) -> Tensor:
    inputs = inputs.clone().requires_grad_()
    return torch.autograd.grad(activation(inputs * 1.0).sum(), inputs)[0]


@pytest.mark.parametrize("shape", [(9, 40), (9, 5, 40), (9, 40, 3, 2)], ids=["features", "sequence", "maps"])
@pytest.mark.parametrize("activation", FLAT, ids=repr)
def test_dead_share_is_that_of_units_without_slope(activation: nn.Module, shape: tuple[int, ...]) -> None:
    units = 1 if len(shape) == 4 else len(shape) - 1
    rng = torch.Generator().manual_seed(1)
    offsets = torch.linspace(-7, 7, 40).reshape([-1 if dim == units else 1 for dim in range(len(shape))])
    inputs = 0.1 * torch.randn(shape, generator=rng, dtype=torch.float64) + offsets
    dead = (slope(activation, inputs) == 0).movedim(units, 0).flatten(1).all(1)
    assert 0 < dead.sum() < 40
    readings = examine(activation, [inputs.requires_grad_()], lambda module, x: module(x * 1.0).sum(), DeadUnits())
    assert readings.values["dead_share"][0, 0] == pytest.approx(dead.double().mean().item(), abs=1e-12)


ONE_SIDED = [nn.ELU(), nn.ELU(0.5), nn.ELU(3.0), nn.CELU(2.0), nn.SELU(), nn.LogSigmoid(), nn.Softplus(), nn.Softplus(3.0)]
SQUASHING = [nn.Tanh(), nn.Sigmoid(), nn.Softsign(), nn.Hardtanh(-0.5, 2.0), nn.Hardsigmoid(), *ONE_SIDED]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("activation", SQUASHING, ids=repr)
def test_saturated_share_is_that_of_small_slopes(activation: nn.Module, share: float) -> None:
    largest = slope(activation, torch.linspace(-30, 30, 60_001, dtype=torch.float64)).max()
    inputs = 4 * torch.randn(30, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    saturated = slope(activation, inputs) <= share * largest
    assert 0 < saturated.sum() < saturated.numel()
    readings = examine(activation, [inputs.requires_grad_()], lambda module, x: module(x).sum(), Saturation(share))
    assert readings.values["saturated_share"][0, 0] == pytest.approx(saturated.double().mean().item(), abs=1e-12)


def test_relu6_saturates_above_only() -> None:
    readings = examine(
        nn.ReLU6(), [torch.tensor([[-1.0, 1.0, 7.0, 8.0]])], lambda m, x: m(x.requires_grad_()).sum(), Saturation()
    )
    assert readings.values["saturated_share"][0, 0] == 0.5

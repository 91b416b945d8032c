"""Examinations that move parameters, change modes or hook modules leave the model to the bit as found."""

from __future__ import annotations

import copy

import pytest
import torch
from hostile_modules import PATIENTS

from deepforward.errors import InvalidModel
from deepforward.instruments import BatchNormEffect, CovariateShift, Degradation, LocalSmoothness
from deepforward.instruments.left_as_found import left_as_found

EXAMINATIONS = {
    "local smoothness": lambda: LocalSmoothness(3),
    "covariate shift": lambda: CovariateShift(0.1, count=2),
    "batch norm effect": BatchNormEffect,
    "degradation": Degradation,
}


@pytest.mark.parametrize("examination", EXAMINATIONS)
@pytest.mark.parametrize("name", PATIENTS)
def test_any_module_is_left_to_the_bit_as_found(name, examination):
    patient, model = PATIENTS[name], PATIENTS[name].model()
    patient.loss(model, patient.batch()).backward()
    next(model.modules()).training = False  # modes need not agree
    gradients = [p.grad for p in model.parameters()]
    before = copy.deepcopy((model.state_dict(), gradients, [m.training for m in model.modules()], torch.get_rng_state()))
    try:
        measured = EXAMINATIONS[examination]().measure(model, [patient.batch(1), patient.batch(2)], patient.loss)
    except InvalidModel as refused:
        assert examination in ("batch norm effect", "covariate shift"), refused
    else:
        assert measured == EXAMINATIONS[examination]().measure(model, [patient.batch(1), patient.batch(2)], patient.loss)
    state, values, modes, rng = before
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True))
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(g is None or torch.equal(g, v) for g, v in zip(gradients, values, strict=True))
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), rng)
    hooks = [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks]
    assert not hooks


@pytest.mark.parametrize("examination", EXAMINATIONS)
def test_an_error_in_the_middle_leaves_it_too(examination):
    model = PATIENTS["images"].model()
    before, calls = copy.deepcopy(model.state_dict()), []

    def loss(module, batch):
        calls.append(batch)
        if len(calls) == 4:
            raise RuntimeError("stop")
        return PATIENTS["images"].loss(module, batch)

    with pytest.raises(RuntimeError, match="stop"):
        EXAMINATIONS[examination]().measure(model, [PATIENTS["images"].batch(k) for k in range(4)], loss)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_parameters_moved_inside_come_back_as_the_same_tensors():
    model = torch.nn.Linear(3, 2)
    weight, value = model.weight, model.weight.detach().clone()
    with left_as_found(model, moves=True), torch.no_grad():
        model.weight.mul_(2)
    assert model.weight is weight and torch.equal(weight, value)

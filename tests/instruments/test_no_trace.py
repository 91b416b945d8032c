"""The contract: whatever the module, the probe changes nothing and leaves nothing."""

from __future__ import annotations

import copy
import dataclasses
import gc
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hostile_modules import PATIENTS, Patient
from torch import Tensor, nn

from deepforward import catalogue
from deepforward.errors import InvalidModel
from deepforward.instruments import Examination, GradientFlow, Instrument, Probe, examine, locate_nonfinite

STEPS = 5


def train(patient: Patient, watch: str) -> tuple[list[Tensor], nn.Module]:
    """Five steps; every number that the loop can see, in order."""
    torch.manual_seed(3)
    model, seen = patient.model(), []
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1, momentum=0.9)
    hooked = optimizer if watch == "optimizer" else None
    probe = Probe(model, optimizer=hooked, budget=None) if watch else None
    if probe is not None:
        probe.__enter__()
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = patient.loss(model, patient.batch(step))
        loss.backward()
        seen += [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]
        optimizer.step()
    if probe is not None:
        probe.__exit__(None, None, None)
        assert len(probe.readings().steps) == STEPS
    return [*seen, *(value.clone() for value in model.state_dict().values()), torch.get_rng_state()], model


def hooks(model: nn.Module) -> int:
    modules = sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) + len(m._forward_hooks_always_called)
        for m in model.modules()
    )
    parameters = sum(len(p._backward_hooks or ()) + len(p._post_accumulate_grad_hooks or ()) for p in model.parameters())
    return modules + parameters


@pytest.mark.parametrize("watch", ["optimizer", "forward calls"])
@pytest.mark.parametrize("name", PATIENTS)
def test_same_bits_with_and_without_the_probe(name: str, watch: str) -> None:
    plain, _ = train(PATIENTS[name], "")
    probed, model = train(PATIENTS[name], watch)
    assert len(plain) == len(probed)
    assert all(torch.equal(a, b) for a, b in zip(plain, probed, strict=True))
    assert hooks(model) == 0


@contextmanager
def left_as_it_was(patient: Patient) -> Iterator[nn.Module]:
    """A model with gradients and mixed modes; afterwards all of it is checked."""
    model = patient.model()
    patient.loss(model, patient.batch()).backward()
    next(model.modules()).training = False  # modes need not agree
    gradients = [p.grad for p in model.parameters()]
    before = copy.deepcopy((model.state_dict(), gradients, [m.training for m in model.modules()], torch.get_rng_state()))
    yield model
    state, values, modes, rng = before
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True))
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(g is None or torch.equal(g, v) for g, v in zip(gradients, values, strict=True))
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), rng)
    assert hooks(model) == 0
    assert all(p.requires_grad == q.requires_grad for p, q in pairs(model, patient.model()))


@pytest.mark.parametrize("name", PATIENTS)
def test_own_passes_leave_the_model_as_found(name: str) -> None:
    patient = PATIENTS[name]
    with left_as_it_was(patient) as model:
        examine(model, [patient.batch(1), patient.batch(2)], lambda m, batch: patient.loss(m.train(), batch))
        assert locate_nonfinite(model, lambda: patient.loss(model.train(), patient.batch())) is None


@pytest.mark.parametrize("examination", [card.name for card in catalogue.cards("instruments") if "examination" in card.details])
@pytest.mark.parametrize("name", PATIENTS)
def test_an_examination_leaves_the_model_as_found(name: str, examination: str) -> None:
    patient, instrument = PATIENTS[name], catalogue.load("instruments", examination)()
    assert isinstance(instrument, Examination)
    with left_as_it_was(patient) as model:
        batches = [patient.batch(1), patient.batch(2)]
        try:
            measured = instrument.measure(model, batches, lambda m, batch: patient.loss(m.train(), batch))
        except InvalidModel as refusal:
            assert "\n" not in str(refusal)
        else:
            json.dumps(dataclasses.asdict(measured))  # plain values


def live_tensors() -> int:
    gc.collect()
    return sum(1 for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor))


@pytest.mark.parametrize("name", ["images", "checkpointed"])
def test_memory_does_not_grow_with_steps(name: str) -> None:
    patient, model = PATIENTS[name], PATIENTS[name].model()
    optimizer, counts = torch.optim.SGD(model.parameters(), lr=0.01), []
    with Probe(model, optimizer=optimizer, budget=None, capacity=8) as probe:
        for step in range(30):
            optimizer.zero_grad()
            patient.loss(model, patient.batch()).backward()
            optimizer.step()
            if step in (9, 19, 29):
                counts.append(live_tensors())
            assert len(probe._sampler._record._steps) <= 8
    assert counts[1] <= counts[0] and counts[2] <= counts[0]
    steps = probe.readings().steps
    assert len(steps) <= 8 and steps[0] == 0 and steps[-1] >= 16, "a full record is thinned evenly, not cut"


def test_hooks_are_gone_between_samples_and_after_an_error() -> None:
    patient, model = PATIENTS["images"], PATIENTS["images"].model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with pytest.raises(RuntimeError, match="stop"), Probe(model, optimizer=optimizer) as probe:
        for step in range(8):
            assert probe.sampling == (step in (0, 1, 2, 4))
            assert (hooks(model) == 0) == (not probe.sampling)
            patient.loss(model, patient.batch()).backward()
            optimizer.step()
        assert probe.sampling
        model(patient.batch())
        raise RuntimeError("stop")
    assert hooks(model) == 0 and not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks
    assert probe.readings().steps == (0, 1, 2, 4, 8), "what the step that failed has shown is kept"


def test_a_copy_made_during_a_sampled_step_is_free_of_the_probe() -> None:
    patient, model = PATIENTS["images"], PATIENTS["images"].model()
    with Probe(model, budget=None) as probe:
        patient.loss(model, patient.batch()).backward()
        saved = io.BytesIO()
        torch.save(model, saved)
        twin = copy.deepcopy(model)
        for _ in range(3):
            patient.loss(twin, patient.batch()).backward()
        assert probe.step == 0
    assert len(saved.getvalue()) < 40_000, "the probe was saved along"
    assert all(torch.equal(a.grad, 3 * b.grad) or torch.allclose(a.grad, 4 * b.grad) for a, b in pairs(twin, model))


def pairs(a: nn.Module, b: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter]]:
    return list(zip(a.parameters(), b.parameters(), strict=True))


def test_evaluation_is_not_looked_at() -> None:
    class Seen(Instrument):
        count = 0

        def of_output(self, module: nn.Module):
            def count(output: Tensor):
                Seen.count += 1
                return GradientFlow().of_output(module)["activation_rms"](output)

            return {"activation_rms": count}

    patient = PATIENTS["sequential"]
    model = patient.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, Seen(), optimizer=optimizer, budget=None):
        with torch.no_grad():
            patient.loss(model, patient.batch())
        assert Seen.count == 0
        patient.loss(model, patient.batch()).backward()
        assert Seen.count == 3

"""Looks inside any module while any loop trains it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from deepforward.errors import InvalidOption, ProbeWarning
from deepforward.instruments.cadence import Cadence
from deepforward.instruments.gradient_norms import GradientNorms
from deepforward.instruments.instrument import Instrument
from deepforward.instruments.layer_hooks import Hook, in_backward
from deepforward.instruments.locate import locate_nonfinite
from deepforward.instruments.readings import Readings
from deepforward.instruments.sampler import Sampler
from deepforward.instruments.wrappers import hidden_by, unwrapped

_ADVICE = "train the module as it is on one device to see its layers"


class Probe:
    """Reads instruments inside a model while a loop, yours or ours, trains it; leaves results and model as they are.

    In somebody's loop, which stays as it is:

        from deepforward import Probe, diagnose
        with Probe(model, optimizer=optimizer) as probe:
            for inputs, targets in batches:
                optimizer.zero_grad()
                loss_function(model(inputs), targets).backward()
                optimizer.step()
        print(diagnose(probe))

    A step ends with `optimizer.step()`; without an optimizer, where the next forward pass of the model begins. Hooks are on the
    model only during sampled steps. These come at steps 0, 1, 2, 4, 8, ..., then as often as the measured cost allows. Outputs,
    gradients and random numbers are the same bits as without the probe. A forward pass of the model under `torch.no_grad()` is
    taken for evaluation and not looked at. If a step runs the model several times (gradient accumulation), the last run counts.

    Attributes:
        step: Training steps since the start, `first_step` included.
    """

    def __init__(
        self,
        model: nn.Module,
        *instruments: Instrument,
        optimizer: Optimizer | None = None,
        budget: float | None = 0.02,
        rows: int | None = 16,
        capacity: int = 256,
        first_step: int = 0,
    ) -> None:
        """Prepare to look; nothing is touched before `with`.

        Args:
            model: Any module. Of one that is compiled only parameters are read, since it ignores hooks that come later; a
                warning says so.
            instruments: What to read; all four of the catalogue if none is given.
            optimizer: The optimizer whose `step` ends a training step; the last one, if a step has several.
            budget: Share of the step time that looking may cost, in (0, 1]; 1 or None samples every step.
            rows: Examples to look at in outputs with four or more dimensions (images); None looks at all.
            capacity: Sampled steps to keep; when there are more, every other one is dropped and sampling slows down.
            first_step: Number of the first step, for a run that is resumed.

        Raises:
            InvalidOption: A number is out of range, or the optimizer moves no parameter of the model.
            InvalidModel: The model has uninitialised (lazy) parameters, or is TorchScript.
        """
        if budget is not None and not 0 < budget <= 1:
            raise InvalidOption(f"got budget={budget}, expected a share in (0, 1]; give None to sample every step")
        if capacity < 2 or (rows is not None and rows < 1):
            raise InvalidOption(f"got capacity={capacity}, rows={rows}, expected at least 2 and 1; leave them out for defaults")
        self.model = unwrapped(model)
        self.step = first_step
        self._hidden_by = hidden_by(model)
        self._optimizer = optimizer
        updated = list(self.model.parameters()) if optimizer is None else _parameters_of(optimizer)
        if optimizer is not None and not {*map(id, updated)} & {*map(id, self.model.parameters())}:
            raise InvalidOption("got an optimizer that moves no parameter of the model; give the optimizer that trains it")
        self._sampler = Sampler(self.model, instruments, updated, rows, capacity)
        self._cadence = Cadence(None if budget == 1 else budget)
        self._handles: list[RemovableHandle] = []
        self._running = self._replaying = False
        self._clock = 0.0

    def __enter__(self) -> Probe:
        if self._hidden_by:
            warnings.warn(f"got {self._hidden_by}; only parameters are read: {_ADVICE}", ProbeWarning, stacklevel=2)
        if self._optimizer is None:
            self._handles = [self.model.register_forward_pre_hook(_StepBegins(self))]
        else:
            self._handles = [
                self._optimizer.register_step_pre_hook(self._before_update),
                self._optimizer.register_step_post_hook(self._after_update),
            ]
            self._begin_step()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        # What a step cut short by an error has shown is what one wants to see.
        self._sampler.close()
        self._running = False

    @property
    def sampling(self) -> bool:
        """Whether the step that runs now is being read."""
        return self._sampler.sample is not None

    def observe_gradients(self, norms: GradientNorms) -> None:
        """Share gradient norms that the loop computed, for example to clip; they are the gradients before clipping.

        Call it between backward and `optimizer.step()`; on a step that is not sampled it does nothing.
        """
        self._sampler.observe_gradients(norms)

    def locate(self, forward_loss: Callable[[], Tensor]) -> Mapping[str, object] | None:
        """Replay a batch whose loss is not finite and put the first producer into the readings; see `locate_nonfinite`.

        Call it before the parameters move. A step being sampled is given up.
        """
        self._sampler.abandon()
        self._replaying = True
        try:
            origin = locate_nonfinite(self.model, forward_loss)
        finally:
            self._replaying = False
        if origin is not None:
            self._sampler.origins.append({"step": self.step, **origin})
        return origin

    def readings(self) -> Readings:
        """All that was sampled so far."""
        return self._sampler.readings()

    def _begin_step(self) -> None:
        self._running = True
        self._clock = time.perf_counter()
        if self._cadence.due:
            self._sampler.open(self.step, hooks=not self._hidden_by, in_forward=self._optimizer is None)

    def _end_step(self) -> None:
        sampled = self.sampling
        self._say_if_blind()
        thinned = self._sampler.close()
        self._cadence.passed(time.perf_counter() - self._clock, sampled=sampled)
        if thinned:
            self._cadence.slow_down()
        self.step += 1

    def _say_if_blind(self) -> None:
        if not self._hidden_by and self._sampler.is_blind:
            self._hidden_by = "a model called inside a compiled function, which ignores hooks added later"
            warnings.warn(f"got {self._hidden_by}; only parameters are read: {_ADVICE}", ProbeWarning, stacklevel=4)

    def _before_update(self, optimizer: Optimizer, arguments: Any, options: Any) -> None:
        self._sampler.before_update()

    def _after_update(self, optimizer: Optimizer, arguments: Any, options: Any) -> None:
        self._end_step()
        self._begin_step()

    def _model_called(self) -> None:
        if torch.is_grad_enabled() and not in_backward() and not self._replaying:
            if self._running:
                self._end_step()
            self._begin_step()


class _StepBegins(Hook):
    def __init__(self, probe: Probe) -> None:
        self.probe = probe

    def __call__(self, module: nn.Module, inputs: object) -> None:
        if module is self.probe.model:
            self.probe._model_called()


def _parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]

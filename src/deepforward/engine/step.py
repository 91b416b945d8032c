"""One training step: play the objective's signals on a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from deepforward.data.dataset import Batch
from deepforward.engine.assembly import Parts
from deepforward.instruments import GradientNorms, Probe, gradient_norms


class Stepper:
    """Plays signals: zero the role's gradients, backward to its parameters, clip, step.

    Args:
        parts: Model, objective and optimisers.
        rng: Generator of the objective's random draws.
        probe: The probe that looks at these steps.
    """

    def __init__(self, parts: Parts, rng: torch.Generator, probe: Probe | None = None) -> None:
        self.parts, self.rng, self.probe = parts, rng, probe
        self.clip = parts.recipe.clip
        self.scaler = torch.amp.GradScaler(parts.arithmetic.device.type, enabled=parts.arithmetic.precision == "fp16")
        self.parameters = {
            role: [p for group in optimizer.param_groups for p in group["params"]]
            for role, optimizer in parts.optimizers.items()
        }

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of every optimiser."""
        for optimizer in self.parts.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate

    def step(self, batch: Batch, finite: Callable[[Tensor], None], measure: bool = False) -> dict[str, Tensor]:
        """Take one step on `batch`.

        Args:
            batch: Scaled examples on the device.
            finite: Called with each loss, and each gradient norm that is measured, before it is followed; raises if it is not
                finite.
            measure: Measure the gradient norm although nothing is clipped.

        Returns:
            Scalars by name: `loss` is the last signal's; `gradient_norm` is its global norm, if it was measured.
        """
        log: dict[str, Tensor] = {}
        signals = iter(self.parts.objective.signals(self.parts.forward, batch, self.rng))
        while True:
            with self.parts.arithmetic.autocast():
                signal = next(signals, None)
            if signal is None:
                return log
            finite(signal.loss)
            optimizer, parameters = self.parts.optimizers[signal.role], self.parameters[signal.role]
            optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(signal.loss).backward(inputs=parameters)
            log.update(_named(signal.role, {"loss": signal.loss.detach(), **signal.log}))
            if self.clip is not None or measure:
                self.scaler.unscale_(optimizer)
                log["gradient_norm"] = self._look_at_gradients(parameters)
                if not self.scaler.is_enabled():  # the scaler of fp16 meets infinities on its way and skips the step
                    finite(log["gradient_norm"])
            self.scaler.step(optimizer)
            self.scaler.update()

    def _look_at_gradients(self, parameters: list[nn.Parameter]) -> Tensor:
        """One pass over the gradients, for clipping and for the probe; the global norm before clipping.

        It never depends on whether the probe samples this step: that follows the clock, and the bits of a run must not.
        """
        norms = gradient_norms(parameters)
        if self.clip is not None:
            if self.probe is not None:
                self.probe.observe_gradients(norms)
            clip_gradients(norms, self.clip)
        return norms.total


def clip_gradients(norms: GradientNorms, threshold: float) -> None:
    """Scale the gradients down so that their global norm is at most `threshold`.

    The multiplication is left out where nothing is clipped if the norm is at hand (on a CPU): that is half the cost.
    """
    if norms.total.device.type != "cpu" or norms.total > threshold:
        gradients = [p.grad for p in norms.parameters if p.grad is not None]
        torch._foreach_mul_(gradients, (threshold / (norms.total + 1e-6)).clamp(max=1.0))


def _named(role: str, log: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{role}/{name}" if role else name: value for name, value in log.items()}

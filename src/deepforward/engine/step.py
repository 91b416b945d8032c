"""One training step: play the objective's signals on a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from deepforward.data.dataset import Batch
from deepforward.engine.assembly import Parts


class Stepper:
    """Plays signals: zero the role's gradients, backward to its parameters, clip, step.

    Args:
        parts: Model, objective and optimisers.
        rng: Generator of the objective's random draws.
    """

    def __init__(self, parts: Parts, rng: torch.Generator) -> None:
        self.parts, self.rng = parts, rng
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

    def step(self, batch: Batch, measure: bool, finite: Callable[[Tensor], None]) -> tuple[dict[str, Tensor], Tensor | None]:
        """Take one step on `batch`.

        Args:
            batch: Scaled examples on the device.
            measure: Whether to measure the gradient norm although nothing is clipped.
            finite: Called with each loss before it is followed; raises if it is not finite.

        Returns:
            Scalars by name (`loss` is the last signal's), and the last signal's global gradient norm (None if not measured).
        """
        log: dict[str, Tensor] = {}
        norm: Tensor | None = None
        signals = iter(self.parts.objective.signals(self.parts.forward, batch, self.rng))
        while True:
            with self.parts.arithmetic.autocast():
                signal = next(signals, None)
            if signal is None:
                return log, norm
            finite(signal.loss)
            optimizer, parameters = self.parts.optimizers[signal.role], self.parameters[signal.role]
            optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(signal.loss).backward(inputs=parameters)
            if self.clip is not None or measure:
                self.scaler.unscale_(optimizer)
                norm = clip_gradients(parameters, self.clip)
            self.scaler.step(optimizer)
            self.scaler.update()
            log.update(_named(signal.role, {"loss": signal.loss.detach(), **signal.log}))


def clip_gradients(parameters: list[Tensor], threshold: float | None) -> Tensor:
    """Global norm of the gradients; they are scaled down to `threshold` where it is exceeded.

    The multiplication is left out where nothing is clipped if the norm is at hand (on a CPU): that is half the cost.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)).float())
    if threshold is not None and (norm.device.type != "cpu" or norm > threshold):
        torch._foreach_mul_(gradients, (threshold / (norm + 1e-6)).clamp(max=1.0))
    return norm


def _named(role: str, log: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{role}/{name}" if role else name: value for name, value in log.items()}

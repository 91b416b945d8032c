"""Where a run stands, saved so that it continues with the same bits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepforward.engine import checkpoint
from deepforward.engine.assembly import Parts
from deepforward.engine.randomness import capture, restore
from deepforward.engine.run import load_tensors
from deepforward.engine.step import Stepper


@dataclass
class Standing:
    """What changes while a run trains, besides the parts themselves.

    Attributes:
        peak: Learning rate that the schedule is relative to.
        epoch: Epochs finished.
        position: Steps done in the present epoch.
        seen: Examples seen in it.
        sums: Sums over them of what the objective logs, by name.
        norms: Gradient norms measured in it.
        history: Rows of the finished epochs.
        averages: Running means of the trained parameters by name; empty without averaging.
        best: Model, objective and scaling tensors of the best epoch.
        best_loss: Its validation loss; None before there is one.
        stale: Epochs since then.
        seconds: Time spent before the present process took over.
    """

    peak: float
    epoch: int = 0
    position: int = 0
    seen: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    norms: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    averages: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_loss: float | None = None
    stale: int = 0
    seconds: float = 0.0

    def means(self) -> dict[str, float]:
        """Means over the examples seen in the present epoch, by name."""
        return {name: float(value) / self.seen for name, value in self.sums.items()}

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Close the present epoch with its row of the history."""
        self.history.append({key: value if math.isfinite(value) else None for key, value in row.items()})
        self.epoch, self.position, self.seen, self.sums, self.norms = self.epoch + 1, 0, 0, {}, []


#: Fields that are not plain values, or are saved elsewhere.
_TENSORS = ("sums", "averages", "best")


def save(
    folder: Path,
    standing: Standing,
    parts: Parts,
    stepper: Stepper,
    *,
    generators: Mapping[str, torch.Generator],
    order_start: Tensor,
) -> None:
    """Write the checkpoints `best` and `newest`.

    Args:
        folder: Folder of the checkpoints.
        standing: Where the run stands.
        parts: Model, objective, scaling and optimisers.
        stepper: Holds the scaler of fp16.
        generators: The run's own generators.
        order_start: State of the generator `order` before it drew this epoch's order, which is drawn again when continued.

    Raises:
        WriteFailed: A write failed; the earlier checkpoints are intact.
    """
    if standing.best:
        # Before `newest`: if the process dies in between, the run continues from before the best epoch and finds it again.
        checkpoint.save(folder, "best", standing.best, {"epoch": standing.epoch, "best_loss": standing.best_loss})
    tensors, optimizers = module_tensors(parts), {}
    for role, optimizer in parts.optimizers.items():
        state, optimizers[role] = checkpoint.flatten_optimizer(optimizer.state_dict())
        tensors |= {f"optimizer/{role}/{name}": value for name, value in state.items()}
    random, other = capture(generators, parts.arithmetic.device)
    tensors |= {f"random/{name}": value for name, value in (random | {"stream/order": order_start}).items()}
    tensors |= {f"sums/{name}": value for name, value in standing.sums.items()}
    tensors |= {f"average/{name}": value for name, value in standing.averages.items()}
    plain = {f.name: getattr(standing, f.name) for f in dataclasses.fields(standing) if f.name not in _TENSORS}
    scaler = stepper.scaler.state_dict()
    checkpoint.save(folder, "newest", tensors, {"standing": plain, "optimizers": optimizers, "random": other, "scaler": scaler})


def load(folder: Path, parts: Parts, stepper: Stepper, generators: Mapping[str, torch.Generator]) -> Standing:
    """Put the newest checkpoint into the parts, the stepper and the generators, and return where the run stands.

    Raises:
        CorruptCheckpoint: The checkpoint is missing or damaged.
        RunMismatch: It does not fit the parts.
    """
    tensors, plain = checkpoint.load(folder, "newest")
    load_tensors(parts, tensors)
    for role, optimizer in parts.optimizers.items():
        checkpoint.restore_optimizer(optimizer, _below(tensors, f"optimizer/{role}/"), plain["optimizers"][role])
    restore(_below(tensors, "random/"), plain["random"], generators, parts.arithmetic.device)
    stepper.scaler.load_state_dict(plain["scaler"])
    sums = {name: value.to(parts.arithmetic.device) for name, value in _below(tensors, "sums/").items()}
    averages = {name: value.to(parts.arithmetic.device) for name, value in _below(tensors, "average/").items()}
    best = checkpoint.load(folder, "best")[0] if checkpoint.exists(folder, "best") else {}
    return Standing(**plain["standing"], sums=sums, averages=averages, best=best)


def module_tensors(parts: Parts) -> dict[str, Tensor]:
    """Tensors of model, objective and scaling by `part/name`; the inverse is `run.load_tensors`."""
    modules = {"model": parts.model, "objective": parts.objective, "scaling": parts.scaling}
    return {f"{part}/{name}": value for part, module in modules.items() for name, value in module.state_dict().items()}


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

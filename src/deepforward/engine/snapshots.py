"""Pictures of a run's way: what the objective shows of the model at some epochs, kept in files of their own."""

from __future__ import annotations

import re
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from deepforward.engine.assembly import Parts
from deepforward.engine.evaluation import snapshot
from deepforward.errors import CorruptRun
from deepforward.files import write_whole

#: How many epochs of a run are pictured, at most.
_COUNT = 12
_NAME = re.compile(r"epoch-(\d+)\.safetensors")


def snapshot_epochs(epochs: int) -> list[int]:
    """The epochs after which a snapshot is kept: at most 12 of 1..epochs, spread geometrically, the first and last among them.

    They depend on nothing but the number of epochs, so that a run that was interrupted keeps the same ones.

    Args:
        epochs: Length of the whole run.
    """
    return sorted({round(epochs ** (i / (_COUNT - 1))) for i in range(_COUNT)})


def keep(folder: Path, parts: Parts, epoch: int, epochs: int) -> None:
    """After `epoch` of `epochs`, write what the objective shows of the model, if this is an epoch to picture.

    Args:
        folder: Folder of the run; the file is `snapshots/epoch-00012.safetensors` in it.
        parts: Model and objective as they stand.
        epoch: Epochs finished.
        epochs: Length of the whole run.

    Raises:
        WriteFailed: The file could not be written.
    """
    if epoch not in snapshot_epochs(epochs):
        return
    shown = snapshot(parts)
    if shown:
        content = safetensors.torch.save({name: as_bytes(values) for name, values in shown.items()})
        write_whole(folder / "snapshots" / f"epoch-{epoch:05d}.safetensors", content)


def load(folder: Path) -> dict[int, dict[str, Tensor]]:
    """Epoch -> name -> tensor of the snapshots of a run; values in [0, 1] are exact to 1/510.

    Args:
        folder: Folder of the run.

    Raises:
        CorruptRun: A file cannot be read, is cut short or altered.
    """
    found = {}
    for path in (folder / "snapshots").glob("epoch-*.safetensors"):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        try:
            tensors = safetensors.torch.load(path.read_bytes())
        except (OSError, safetensors.SafetensorError) as error:
            raise CorruptRun(f"{path} cannot be read ({type(error).__name__}); restore or delete it") from error
        found[int(match[1])] = {name: from_bytes(values) for name, values in tensors.items()}
    return dict(sorted(found.items()))


def as_bytes(values: Tensor) -> Tensor:
    """A byte a value, 255 standing for 1, where all are in [0, 1]; else the values."""
    values = values.detach().float().cpu()
    within = bool(((values >= 0) & (values <= 1)).all())
    return ((values * 255).round().to(torch.uint8) if within else values).contiguous().clone()


def from_bytes(values: Tensor) -> Tensor:
    """Inverse of `as_bytes`, to 1/510."""
    return values.float() / 255 if values.dtype == torch.uint8 else values

"""History and readings of a run -> TensorBoard event files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deepforward.errors import MissingExtra, WriteFailed, first_line
from deepforward.instruments.readings import Readings

#: Of a history's row, what says where it stands and is no curve.
_PLACE = ("epoch", "step")


def writer_class() -> Any:
    """PyTorch's writer of event files.

    Raises:
        MissingExtra: tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (an extra)
    except ImportError:
        raise MissingExtra("got no tensorboard, which event files need; run pip install 'deepforward[tensorboard]'") from None
    return SummaryWriter


class EventFiles:
    """Scalars of a run in event files: `train/loss` and all else in its history, and `gradient_rms/LAYER#CALL` of each layer.

    The step of a scalar is the training step: of a row of the history the steps done at the end of its epoch, of a reading the
    step that was sampled. A run that is resumed withdraws what an earlier process wrote and writes it anew from its folder, so
    that nothing appears twice, and nothing that was lost with the interruption remains.

    Args:
        folder: Where the event files go.

    Raises:
        MissingExtra: tensorboard is not installed.
        WriteFailed: The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._newest = -1  # the last step whose readings were written
        try:
            self._writer = writer_class()(str(folder), purge_step=0)
        except OSError as error:
            raise self._failed(error) from error

    def history(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows of the history, each once; what was not finite is written as NaN.

        Raises:
            WriteFailed: The disk is full.
        """
        scalars = {
            (name, int(row["step"])): math.nan if value is None else float(value)
            for row in rows
            for name, value in row.items()
            if name not in _PLACE
        }
        self._write(scalars)

    def readings(self, readings: Readings) -> None:
        """Write those readings that came since the last call.

        Raises:
            WriteFailed: The disk is full.
        """
        fresh = [i for i, step in enumerate(readings.steps) if step > self._newest]
        scalars = {
            (f"{statistic}/{layer}", readings.steps[i]): float(array[i, j])
            for i in fresh
            for statistic, array in readings.values.items()
            for j, layer in enumerate(readings.layers)
            if not math.isnan(array[i, j])  # the layer has no such statistic
        }
        self._write(scalars)
        self._newest = max(self._newest, *readings.steps, -1)

    def close(self) -> None:
        """Write all that is pending.

        Raises:
            WriteFailed: The disk is full.
        """
        try:
            self._writer.close()
        except OSError as error:
            raise self._failed(error) from error

    def _write(self, scalars: Mapping[tuple[str, int], float]) -> None:
        try:
            for (name, step), value in scalars.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> WriteFailed:
        return WriteFailed(
            f"{self.folder} could not be written ({error.strerror or first_line(error)}); "
            "free space or train without event files"
        )

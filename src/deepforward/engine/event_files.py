"""History and readings of a run -> TensorBoard event files."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepforward.errors import MissingExtra, WriteFailed, first_line
from deepforward.instruments.readings import Readings

#: Of a history's row, what says where it stands and is no curve.
_PLACE = ("epoch", "step")


def check_installed() -> None:
    """Say so if tensorboard is missing.

    Raises:
        MissingExtra: tensorboard is not installed.
    """
    try:
        import tensorboard  # noqa: F401, PLC0415  (an extra)
    except ImportError:
        raise MissingExtra("got no tensorboard, which event files need; run pip install 'deepforward[tensorboard]'") from None


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
        check_installed()
        from tensorboard.compat.proto import event_pb2, summary_pb2  # noqa: PLC0415
        from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: PLC0415

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._newest = -1  # the last step whose readings were written
        # TensorBoard reads the files of a folder in the order of their names, so that of a resumed run must come last.
        self.path = folder / f"events.out.tfevents.{time.time():017.6f}.{os.getpid()}"
        withdrawn = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("xb")
            # Not PyTorch's SummaryWriter: it writes in a thread of its own, where a full disk is a traceback on stderr.
            self._records = RecordWriter(self._file)
            self._record(file_version="brain.Event:2")
            self._record(step=0, session_log=withdrawn)
            self._records.flush()

    def history(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows of the history, each once; what was not finite is written as NaN.

        Raises:
            WriteFailed: The disk is full.
        """
        for row in rows:
            curves = {name: value for name, value in row.items() if name not in _PLACE}
            self._write(int(row["step"]), {name: math.nan if value is None else value for name, value in curves.items()})

    def readings(self, readings: Readings) -> None:
        """Write those readings that came since the last call.

        Raises:
            WriteFailed: The disk is full.
        """
        for i, step in enumerate(readings.steps):
            if step > self._newest:
                numbers = {
                    f"{statistic}/{layer}": array[i, j]
                    for statistic, array in readings.values.items()
                    for j, layer in enumerate(readings.layers)
                    if not math.isnan(array[i, j])  # the layer has no such statistic
                }
                self._write(step, numbers)
                self._newest = step

    def close(self) -> None:
        """Close the file.

        Raises:
            WriteFailed: The disk is full.
        """
        with self._writing():
            self._file.close()

    def _write(self, step: int, numbers: Mapping[str, float]) -> None:
        values = [self._summary.Value(tag=name, simple_value=float(number)) for name, number in numbers.items()]
        with self._writing():
            self._record(step=step, summary=self._summary(value=values))
            self._records.flush()

    def _record(self, **content: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **content).SerializeToString())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = f"{self.path} could not be written ({error.strerror or first_line(error)})"
            raise WriteFailed(f"{said}; free space or train without event files") from error

"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

#: Seconds between two updates, so that showing never costs what it shows.
_INTERVAL = 0.2

#: What an epoch's line says, where the history has it.
_NAMES = ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy", "examples_per_second")
_NAMES_OF_ENERGY = {
    "validation/reconstruction": "reconstruction",
    "validation/pseudo_log_likelihood": "pseudo log likelihood",
    "train/free_energy": "free energy train",
    "validation/free_energy": "validation",
    "chains/mixing": "mixing",
    "examples_per_second": "examples_per_second",
}


class Display:
    """Progress of one run on stderr.

    Args:
        title: Name of the run.
        steps: Total number of steps.
        done: Steps already done (a resumed run).
        quiet: Show nothing.
    """

    def __init__(self, title: str, steps: int, done: int = 0, quiet: bool = False) -> None:
        self.steps, self.quiet = steps, quiet
        self._next = 0.0
        self._bar: Progress | None = None
        if not quiet and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[state]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(title, total=steps, completed=done, state="")

    def __enter__(self) -> Display:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def due(self) -> bool:
        """Whether enough time has passed to show something new; ask before reading a number from the device."""
        return self._bar is not None and time.monotonic() >= self._next

    def show(self, step: int, numbers: Mapping[str, float], speed: float) -> None:
        """Show the state after `step` steps: `numbers` by name, `speed` in examples per second."""
        if self._bar is None:
            return
        self._next = time.monotonic() + _INTERVAL
        self._bar.update(self._task, completed=step, state=f"{_line(numbers)}  {speed:,.0f} examples/s")

    def epoch(self, epoch: int, epochs: int, row: Mapping[str, float], descends: bool = True) -> None:
        """Say that an epoch has ended.

        Args:
            epoch: Its number, from 1.
            epochs: How many there will be.
            row: Its row of the history.
            descends: Whether the loss tells progress; where not, it is said how well a model with an energy knows the data.
        """
        names = {name: name for name in _NAMES} if descends else _NAMES_OF_ENERGY
        known = {said: row[name] for name, said in names.items() if name in row}
        self.say(f"epoch {epoch}/{epochs}  {_line(known)}")

    def say(self, text: str) -> None:
        """Print one line above the bar."""
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201  (this is the display)


def _line(numbers: Mapping[str, float]) -> str:
    parts = (f"{value:,.0f}" if value >= 1000 else f"{value:.4f}" for value in numbers.values())
    return "  ".join(f"{name.replace('_', ' ')} {part}" for name, part in zip(numbers, parts, strict=True))

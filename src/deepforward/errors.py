"""Every exception and warning class of deepforward, and how an error of others is quoted.

A leaf derives from `DeepforwardError` and from the builtin that a caller would naturally catch. A message is one line made of
three parts: what was got, what was expected, what to do. The command line prints that line and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class DeepforwardError(Exception):
    """Root of all errors raised on purpose by deepforward."""


class ShapeError(DeepforwardError, ValueError):
    """A tensor, image or layer has a shape that does not fit."""


class InvalidData(DeepforwardError, ValueError):
    """The data was found and read, but its content cannot be used (NaN, labels out of range, one class, zero examples)."""


class InvalidOption(DeepforwardError, ValueError):
    """An option has a value outside its range or of the wrong kind."""


class TooLarge(DeepforwardError, ValueError):
    """An exact computation would take longer than anyone waits. The message says how long and names the estimate to use."""


class UnknownName(DeepforwardError, LookupError):
    """A name that no card carries. The message offers the nearest names."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name = kind, name
        names = sorted(known)
        self.neighbours = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        offer = f"did you mean {' or '.join(self.neighbours)}?" if self.neighbours else f"one of: {', '.join(names)}"
        super().__init__(f"unknown {kind} '{name}'; {offer}")


class DataUnavailable(DeepforwardError, OSError):
    """A data source could not be found or read."""


class CorruptData(DeepforwardError, OSError):
    """A data file is cut short, has a wrong magic number, or does not decode."""


class CorruptCheckpoint(DeepforwardError, OSError):
    """A checkpoint is cut short, altered, or fails its checksum."""


class CorruptRun(DeepforwardError, OSError):
    """A file of a run folder cannot be read, is cut short, or is not what it should be."""


class WriteFailed(DeepforwardError, OSError):
    """A file of the run could not be written, for example because the disk is full. What was written before is intact."""


class PortUnavailable(DeepforwardError, OSError):
    """A port to serve on is taken or may not be used."""


class RunMismatch(DeepforwardError, ValueError):
    """A run folder holds another recipe than the one asked for, or is not a run folder."""


class InvalidModel(DeepforwardError, TypeError):
    """A model factory could not be loaded, raised, or returned something that is not a torch.nn.Module."""


class MissingExtra(DeepforwardError, ImportError):
    """An optional dependency is not installed. The message names the extra that brings it."""


class Diverged(DeepforwardError, ArithmeticError):
    """The loss or a gradient became NaN or infinite. The message names the first layer and step where it arose.

    Attributes:
        folder: The run folder, whose readings hold the evidence; None outside a run.
    """

    def __init__(self, message: str, folder: Path | None = None) -> None:
        super().__init__(message)
        self.folder = folder


class NoEffect(DeepforwardError, RuntimeError):
    """A prescription would change nothing on this recipe."""


class DeepforwardWarning(UserWarning):
    """Root of all warnings issued on purpose by deepforward."""


class ProbeWarning(DeepforwardWarning):
    """An instrument cannot see everything it was asked to see."""


class GriddingWarning(DeepforwardWarning):
    """Dilated convolutions have rates that leave pixels of their receptive field untouched."""


class LikelihoodWarning(DeepforwardWarning):
    """An estimate of a likelihood rests on so few samples that it means little."""


def first_line(error: BaseException) -> str:
    """What an error of others says, as a part of a message of one line; its class, where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]

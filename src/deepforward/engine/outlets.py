"""Where a run tells of itself while it goes on, and how often it may."""

from __future__ import annotations

import time
from dataclasses import dataclass

from deepforward.errors import InvalidOption


@dataclass(frozen=True, kw_only=True)
class Outlets:
    """Where a run tells of itself; nothing of it changes what the run computes.

    Attributes:
        quiet: No progress on stderr.
        throwaway: The folder will not stay: no snapshots, and the history is written once, at the end.
        watch: Somebody may look into the folder while the run goes on: readings are written as they come.
        tensorboard: History and readings go to TensorBoard event files as well.
    """

    quiet: bool = False
    throwaway: bool = False
    watch: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.throwaway and (self.watch or self.tensorboard):
            raise InvalidOption("got throwaway with watch or tensorboard; a folder that is thrown away is not looked at")


class Pace:
    """Says when something costly may be done again, so that it takes at most a share of the time.

    Args:
        seconds: Time between two at least.
        share: What it may take of the time, in (0, 1].
    """

    def __init__(self, seconds: float, share: float) -> None:
        self._seconds, self._share = seconds, share
        self._next = time.monotonic() + seconds

    @property
    def due(self) -> bool:
        """Whether it may be done now."""
        return time.monotonic() >= self._next

    def done(self, cost: float) -> None:
        """It has been done, and has cost so many seconds."""
        self._next = time.monotonic() + max(self._seconds, cost / self._share)

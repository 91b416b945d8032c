"""Measuring a claim once, and remembering it."""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import deepforward
from deepforward.catalogue import card
from deepforward.files import write_whole
from deepforward.lecture.claim import Table


@dataclass(frozen=True)
class Measurement:
    """A table, and the seconds that it took to measure."""

    table: Table
    seconds: float


@dataclass(frozen=True)
class Key:
    """All that a measurement depends on; a table measured under another key is not used.

    Attributes:
        claim: Name of the claim's card.
        budget: "smoke" or "full".
        seed: Seed of the generator that `measure` draws from.
        version: Version of deepforward.
        source: SHA-256 of the file that defines the claim.
    """

    claim: str
    budget: str
    seed: int
    version: str
    source: str

    @classmethod
    def of(cls, claim: str, budget: str, seed: int) -> Key:
        """The key of a measurement made now."""
        source = Path(inspect.getfile(card("claims", claim).load())).read_bytes()
        return cls(claim, budget, seed, deepforward.__version__, hashlib.sha256(source).hexdigest())

    @property
    def file_name(self) -> str:
        """Name of the file that remembers the measurement, the same for all versions: a new one replaces the old."""
        return f"{self.claim}-{self.budget}-{self.seed}.json"


def measure(key: Key, progress: Callable[[str], None]) -> Measurement:
    """Run the claim's experiment."""
    started = time.perf_counter()
    table = card("claims", key.claim).load()().measure(key.budget, torch.Generator().manual_seed(key.seed), progress)
    return Measurement(table, time.perf_counter() - started)


def remember(folder: Path, key: Key, measurement: Measurement) -> None:
    """Keep a measurement in `folder`.

    Raises:
        WriteFailed: It could not be written; an older one is intact.
    """
    write_whole(folder / key.file_name, json.dumps({"key": asdict(key), **asdict(measurement)}).encode())


def recall(folder: Path, key: Key) -> Measurement | None:
    """The measurement made under this very key, or None if there is none or its file is damaged."""
    try:
        found = json.loads((folder / key.file_name).read_bytes())
        return Measurement(found["table"], found["seconds"]) if found["key"] == asdict(key) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None

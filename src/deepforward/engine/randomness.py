"""Every source of randomness of a run: isolated from the caller's, captured to continue, restored."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Streams of one run, each seeded from the recipe's seed so that one never shifts another.
STREAMS = ("split", "model", "order", "objective")
#: One that came later: its seeds count from the other end. Those of any further one are a digest of its name.
_LATER = "preparation"


def stream(seed: int, name: str, device: str = "cpu") -> torch.Generator:
    """A generator of its own for one purpose of a run."""
    generator = torch.Generator(device)
    if name == _LATER:
        return generator.manual_seed(2**64 - 1 - seed)
    if name not in STREAMS:
        return generator.manual_seed(int.from_bytes(hashlib.sha256(f"{name} {seed}".encode()).digest()[:8]))
    return generator.manual_seed((seed * len(STREAMS) + STREAMS.index(name)) % 2**64)


@contextmanager
def isolated(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators (torch, device, numpy, random) for the block and give the caller's back afterwards.

    A stranger's module draws its initial weights and its dropout masks from them, so they cannot simply be left alone.
    """
    devices = [device] if device.type == "cuda" else []
    own_random, own_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (the legacy state is what modules use)
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(own_random)
            np.random.set_state(own_numpy)  # noqa: NPY002


def draws(generators: Mapping[str, torch.Generator], device: torch.device) -> dict[str, Tensor]:
    """State of torch's global generators and of `generators`; cheap enough for every step."""
    tensors = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        tensors["mps"] = torch.mps.get_rng_state()
    return tensors | {f"stream/{name}": generator.get_state() for name, generator in generators.items()}


def restore_draws(tensors: Mapping[str, Tensor], generators: Mapping[str, torch.Generator], device: torch.device) -> None:
    """Inverse of `draws`."""
    torch.set_rng_state(tensors["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["cuda"], device)
    if device.type == "mps":
        torch.mps.set_rng_state(tensors["mps"])
    for name, generator in generators.items():
        generator.set_state(tensors[f"stream/{name}"])


def capture(generators: Mapping[str, torch.Generator], device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State of every generator that a run can draw from, numpy's and Python's too: tensors by name, and plain values."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    tensors = draws(generators, device) | {"numpy": torch.from_numpy(np.asarray(keys).astype(np.int64))}
    return tensors, {"random": random.getstate(), "numpy": [str(name), int(position), int(has_gauss), float(gauss)]}


def restore(
    tensors: Mapping[str, Tensor], plain: Mapping[str, Any], generators: Mapping[str, torch.Generator], device: torch.device
) -> None:
    """Inverse of `capture`."""
    restore_draws(tensors, generators, device)
    version, internal, gauss = plain["random"]
    random.setstate((version, tuple(internal), gauss))
    name, position, has_gauss, cached = plain["numpy"]
    keys = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state((name, keys, position, has_gauss, cached))  # noqa: NPY002

"""Checkpoints: safetensors and JSON, written whole, proved intact when read.

A checkpoint NAME is two files: `NAME-<digest>.safetensors` with all tensors, and `NAME.json` with the plain values, the digest
of the tensors and its own. The JSON is replaced last, so a crash at any moment leaves the former checkpoint or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from deepforward.errors import CorruptCheckpoint
from deepforward.files import write_whole


def save(folder: Path, name: str, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    """Write the checkpoint `name`, replacing an earlier one of that name.

    Raises:
        WriteFailed: A write failed; the earlier checkpoint is intact.
    """
    # Cloned one by one because safetensors refuses tensors that share memory (tied weights).
    copies = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    content = safetensors.torch.save(copies)
    digest = hashlib.sha256(content).hexdigest()
    file = folder / f"{name}-{digest[:16]}.safetensors"
    write_whole(file, content)
    record = {"file": file.name, "tensors": digest, "plain": plain}
    write_whole(folder / f"{name}.json", json.dumps({"record": record, "digest": _digest(record)}).encode())
    for old in folder.glob(f"{name}-*.safetensors"):
        if old.name != file.name:
            with contextlib.suppress(OSError):
                old.unlink()


def exists(folder: Path, name: str) -> bool:
    """Whether a checkpoint of that name was completed."""
    return (folder / f"{name}.json").is_file()


def load(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and plain values of the checkpoint `name`.

    Raises:
        CorruptCheckpoint: A file is missing, cut short, or a byte differs from what was written.
    """
    index = folder / f"{name}.json"
    try:
        signed = json.loads(index.read_bytes())
        record = signed["record"]
        if signed["digest"] != _digest(record):
            raise ValueError("its digest does not match")
        file = folder / Path(record["file"]).name
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise CorruptCheckpoint(f"checkpoint {error.filename} is missing; restore it or train again") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpoint(f"checkpoint {index} is damaged ({error}); restore it or train again") from error
    if hashlib.sha256(content).hexdigest() != record["tensors"]:
        raise CorruptCheckpoint(f"checkpoint {file} is cut short or altered; restore it or train again")
    return safetensors.torch.load(content), record["plain"]


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split `Optimizer.state_dict()` into tensors (`parameter/key`) and plain values."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {"groups": state["param_groups"], "values": {}}
    for parameter, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{parameter}/{key}"] = value
            else:
                plain["values"][f"{parameter}/{key}"] = value
    return tensors, plain


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    """Inverse of `flatten_optimizer`, with each state tensor in the memory format of its parameter."""
    state: dict[int, dict[str, Any]] = {}
    for path, value in {**plain["values"], **tensors}.items():
        parameter, _, key = path.partition("/")
        state.setdefault(int(parameter), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": plain["groups"]})
    for parameter, entries in optimizer.state.items():
        for key, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                entries[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

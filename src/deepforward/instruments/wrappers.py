"""What is put around a module so that it runs faster, and hides it from hooks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from deepforward.errors import InvalidModel

#: What a compiled module calls the one inside it, where it stands in names.
_INNER = "_orig_mod."


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside `torch.compile`, DataParallel and DistributedDataParallel, which share its parameters.

    Raises:
        InvalidModel: It is TorchScript, which runs without the modules that one could look at, or has uninitialised parameters.
    """
    while hasattr(model, "_orig_mod") or isinstance(model, DataParallel | DistributedDataParallel):
        model = cast(nn.Module, model._orig_mod if hasattr(model, "_orig_mod") else model.module)
    scripted = (name for name, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule))
    if (name := next(scripted, None)) is not None:
        place = f"a TorchScript module '{name}'" if name else "a TorchScript module"
        raise InvalidModel(f"got {place}, inside which nothing is seen; give the module that it was made of")
    if any(map(nn.parameter.is_lazy, model.parameters())):
        raise InvalidModel("got a model with uninitialised parameters; run one batch through it before looking at it")
    return model


def plain_name(name: str) -> str:
    """A module's name without what compiling has put into it."""
    return name.replace(_INNER, "").removesuffix("." + _INNER[:-1])


def hidden_by(model: nn.Module) -> str:
    """Why hooks that are added to the modules now may see nothing, or "" if they will."""
    if any(hasattr(module, "_orig_mod") or module._compiled_call_impl is not None for module in model.modules()):
        return "a compiled model, which ignores hooks added later"
    if any(isinstance(module, DataParallel) and len(module.device_ids) > 1 for module in model.modules()):
        return "a DataParallel model on several devices, which runs copies that have no hooks"
    return ""


def has_compiled() -> bool:
    """Whether anything was compiled in this process."""
    counted = getattr(sys.modules.get("torch._dynamo.utils"), "counters", {})
    return bool(counted.get("frames", {}).get("ok"))


@contextmanager
def uncompiled() -> Iterator[None]:
    """Lets all that was compiled run as it was written, hooks included; nothing is compiled anew afterwards."""
    if "torch._dynamo" not in sys.modules:  # it is slow to import, and without it nothing can have been compiled
        yield
    else:
        with torch.compiler.set_stance("force_eager"):
            yield

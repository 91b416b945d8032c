"""Where and in which number format a run computes, decided by rule so that the same machine always decides the same."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deepforward.engine.recipe import Recipe
from deepforward.errors import InvalidOption

#: Multiply-adds of the largest layer for one batch below which a second thread costs more than it brings.
_WORTH_A_THREAD = 2**23

#: Epochs x examples x pixels from which a run takes so long that some seconds for building a kernel are worth while.
_WORTH_A_KERNEL = 1e8

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Arithmetic:
    """How a run computes.

    Attributes:
        device: Device that holds model and data.
        precision: `fp32`, `bf16` or `fp16`; parameters and their updates are always fp32.
        channels_last: Whether images and convolution weights lie channels last in memory.
        compile: Whether the model is compiled.
        fuse: Whether training steps compute batch normalisation together with the addition and ReLU behind it.
        threads: Threads of the arithmetic on a CPU.
    """

    device: torch.device
    precision: str
    channels_last: bool
    compile: bool
    fuse: bool
    threads: int

    def autocast(self) -> AbstractContextManager[None]:
        """The block in which the forward pass runs; nothing at all for fp32, whose small networks would feel its cost."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, _TYPES[self.precision])

    def place(self, inputs: Tensor) -> Tensor:
        """`inputs` on the device, in the memory format of the model."""
        placed = inputs.to(self.device, non_blocking=True)
        return placed.to(memory_format=torch.channels_last) if self.channels_last and placed.dim() == 4 else placed


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is CUDA, then MPS, then CPU.

    Raises:
        InvalidOption: No such device on this machine.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available = [f"cuda:{i}" for i in range(torch.cuda.device_count())] + available
    if name == "auto":
        return torch.device(available[0])
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in available:
        raise InvalidOption(f"device '{name}' is not on this machine; expected auto or one of {', '.join(available)}")
    return torch.device(wanted)


def choose(recipe: Recipe, model: nn.Module, input_shape: tuple[int, ...], num_examples: int) -> Arithmetic:
    """Fill the recipe's `auto` values for this machine and model.

    A model that says so (`bf16_products`) is multiplied in bf16. Convolutions on images gain from bf16 and channels-last
    wherever the processor multiplies bf16 in hardware; small fully connected networks are bound by dispatch and lose by the
    casts, so they stay in fp32 on a CPU, and on one thread: a second one brings them nothing and, on a busy machine, makes
    every operation wait for the slower of two.

    Fusing is chosen for bf16 on a CPU, channels last, where epochs x training examples x pixels are at least 1e8. The kernel's
    cache has no say, so that a run and its continuation choose alike.

    Args:
        recipe: A complete recipe.
        model: The built module.
        input_shape: Shape of one example.
        num_examples: Examples of the training split.

    Raises:
        InvalidOption: The machine lacks what the recipe wants.
    """
    device = choose_device(recipe.device)
    convolutional = len(input_shape) == 3 and any(isinstance(module, nn.Conv2d) for module in model.modules())
    precision = recipe.precision
    if precision == "auto":
        precision = _precision(device, convolutional, getattr(model, "bf16_products", None))
    if precision == "fp16" and device.type == "cpu":
        raise InvalidOption("precision fp16 on the CPU trains slowly and overflows; use bf16 or fp32")
    channels_last = convolutional if recipe.channels_last == "auto" else recipe.channels_last == "on"
    pixels = (recipe.epochs or 1) * num_examples * math.prod(input_shape[1:])
    pays = device.type == "cpu" and precision == "bf16" and channels_last and pixels >= _WORTH_A_KERNEL
    largest = max((p.numel() for p in model.parameters()), default=0) * (recipe.batch_size or 1)
    small = not convolutional and largest < _WORTH_A_THREAD
    return Arithmetic(
        device=device,
        precision=precision,
        channels_last=channels_last,
        compile=recipe.compile == "on",
        fuse=recipe.compile != "on" and (pays if recipe.fuse == "auto" else recipe.fuse == "on"),
        threads=recipe.threads or (1 if small else torch.get_num_threads()),
    )


def _precision(device: torch.device, convolutional: bool, wish: bool | None) -> str:
    """The format of products; `wish` is what the model says of itself, if anything."""
    if wish is False or device.type not in ("cpu", "cuda"):
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if (convolutional or wish) and cpu_multiplies_bf16() else "fp32"


def cpu_multiplies_bf16() -> bool:
    """Whether the processor has bf16 products in hardware (AMX or AVX512-BF16)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` threads for the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

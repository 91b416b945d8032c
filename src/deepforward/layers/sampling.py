"""Draws of binary units from a counter-based generator, and what Boltzmann machines compute beside them."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from deepforward.errors import InvalidOption
from deepforward.layers.compilation import compiled

_SOURCE = Path(__file__).with_name("sampling.cpp")
_KINDS = (torch.float32, torch.bfloat16)


@functools.cache
def kernel() -> ctypes.CDLL | None:
    """The compiled kernel, or None where there is no compiler."""
    library = compiled(_SOURCE)
    if library is not None:
        flag, pointer, size = ctypes.c_int, ctypes.c_void_p, ctypes.c_long
        matrix = (pointer, size, flag)
        library.binary_units_sample.argtypes = [*matrix * 3, pointer, size, size, flag, ctypes.c_uint64, flag]
        library.binary_units_softplus.argtypes = [*matrix, pointer, pointer, size, size, ctypes.c_double, flag]
        library.binary_units_sample.restype = library.binary_units_softplus.restype = None
    return library


def draw_key(rng: torch.Generator) -> int:
    """A key for one call of a function of this module: 63 random bits from `rng`, wherever it lives."""
    return int(torch.empty((), dtype=torch.int64, device=rng.device).random_(generator=rng))


@torch.no_grad()
def bernoulli(
    probabilities: Float[Tensor, "rows columns"], key: int, *, dtype: torch.dtype | None = None
) -> Shaped[Tensor, "rows columns"]:
    """Ones with the probabilities that are given, else zeros.

    A one is drawn where a uniform 32-bit number is below round(2^32 p), hence always for p >= 1 and never for p <= 0.

    Args:
        probabilities: Of ones, in [0, 1]; NaN gives NaN.
        key: What `draw_key` gave. The same key gives the same draws, whatever the number of threads, where the same
            implementation makes them; the kernel, torch on the processor and torch on an accelerator draw differently.
        dtype: Of the result; that of `probabilities` by default.

    Source:
        Salmon, Moraes, Dror, Shaw 2011, Parallel random numbers: as easy as 1, 2, 3 (Philox4x32-10).
    """
    dtype = dtype or probabilities.dtype
    if not _fits(probabilities):
        return _fires(probabilities, key).to(dtype)
    samples = torch.empty(probabilities.shape, dtype=dtype if dtype in _KINDS else torch.float32)
    _run("sample", probabilities, None, samples, vectors=(None,), options=(False, key))
    return samples.to(dtype)


def sample_sigmoid(
    inputs: Float[Tensor, "rows columns"],
    bias: Float[Tensor, " columns"] | None,
    key: int | None,
    *,
    probabilities: Float[Tensor, "rows columns"] | None = None,
    samples: Float[Tensor, "rows columns"] | None = None,
) -> None:
    """Writes p = sigmoid(inputs + bias), and draws of units that are one with probability p.

    The relative error of a float32 p is below 1e-6 for the argument as rounded to float32, down to 1.3e-38, where the kernel
    makes it zero. A NaN among the inputs gives NaN in its place, in the draws too.

    Args:
        inputs: What the units receive.
        bias: Added to every row; None is zero.
        key: What `draw_key` gave, for the draws; as in `bernoulli`.
        probabilities: Receives p; may be `inputs`, as may `samples`.
        samples: Receives zeros and ones.

    Raises:
        InvalidOption: Samples are wanted, and there is no key.

    Source:
        Salmon, Moraes, Dror, Shaw 2011, Parallel random numbers: as easy as 1, 2, 3 (Philox4x32-10).
    """
    if samples is not None and key is None:
        raise InvalidOption("got samples to draw and no key, expected both; pass key=draw_key(rng)")
    if _fits(inputs, probabilities, samples, vectors=(bias,)):
        _run("sample", inputs, probabilities, samples, vectors=(bias,), options=(True, key or 0))
        return
    with torch.no_grad():
        p = torch.sigmoid(_shifted(inputs, bias))
        if samples is not None and key is not None:
            samples.copy_(_fires(p, key))
        if probabilities is not None:
            probabilities.copy_(p)


@torch.no_grad()
def softplus_sums(
    inputs: Float[Tensor, "rows columns"], bias: Float[Tensor, " columns"] | None, factor: float = 1.0
) -> Float[Tensor, " rows"]:
    """Sums over columns of log(1 + exp(factor * (inputs + bias))), in float64 with an error below 1e-7 a column.

    Args:
        inputs: What the units receive.
        bias: Added to every row; None is zero.
        factor: Inverse temperature.

    Returns:
        One number a row: minus the free energy of units that are summed out. It is float32 where a device has no float64.
    """
    if _fits(inputs, vectors=(bias,)):
        sums = torch.empty(len(inputs), dtype=torch.float64)
        _run("softplus", inputs, vectors=(bias, sums), options=(factor,))
        return sums
    wide = torch.float32 if inputs.device.type == "mps" else torch.float64
    z = _shifted(inputs.to(wide), bias) * factor
    return (z.clamp(min=0) + torch.exp(-z.abs()).log1p()).sum(1)  # torch's softplus leaves out what is below exp(-20)


def _fits(inputs: Any, *matrices: Tensor | None, vectors: tuple[Tensor | None, ...] = ()) -> bool:
    """Whether the kernel covers these matrices, None or of one shape, and vectors of one number a column."""
    return (
        type(inputs) is Tensor
        and inputs.numel() > 0
        and all(m is None or (m.shape == inputs.shape and _is_walkable(m)) for m in (inputs, *matrices))
        and all(v is None or _is_plain(v, inputs.shape[1]) for v in vectors)
        and kernel() is not None
    )


def _is_walkable(matrix: Tensor) -> bool:
    is_dense = matrix.stride(1) == 1 or matrix.shape[1] == 1
    return matrix.is_cpu and matrix.dtype in _KINDS and is_dense


def _is_plain(vector: Tensor, columns: int) -> bool:
    is_dense = vector.shape == (columns,) and vector.is_contiguous()
    return vector.is_cpu and vector.dtype == torch.float32 and is_dense


def _run(name: str, *matrices: Tensor | None, vectors: tuple[Tensor | None, ...], options: tuple[float, ...]) -> None:
    function, inputs = getattr(kernel(), f"binary_units_{name}"), matrices[0]
    assert inputs is not None
    described = [word for matrix in matrices for word in _described(matrix)]
    pointers = [None if vector is None else vector.data_ptr() for vector in vectors]
    function(*described, *pointers, *inputs.shape, *options, torch.get_num_threads())


def _described(matrix: Tensor | None) -> tuple[int | None, int, bool]:
    return (None, 0, False) if matrix is None else (matrix.data_ptr(), matrix.stride(0), matrix.dtype == torch.bfloat16)


def _shifted(inputs: Tensor, bias: Tensor | None) -> Tensor:
    wide = inputs if inputs.dtype == torch.float64 else inputs.float()
    return wide if bias is None else wide + bias


def _fires(p: Tensor, key: int) -> Tensor:
    """The draws of `bernoulli` by torch, in float32 or in float64 as `p` is."""
    p = p if p.dtype == torch.float64 else p.float()
    thresholds = (p * 2.0**32).round().nan_to_num(0.0).clamp(0, 2**32).to(torch.int64)
    return (_uniform(p, key) < thresholds).to(p.dtype).where(~p.isnan(), p)


def _uniform(like: Tensor, key: int) -> Tensor:
    """Uniform integers in [0, 2^32)."""
    if like.device.type == "cpu":
        words = np.random.Generator(np.random.Philox(key=key)).integers(0, 2**32, size=like.shape, dtype=np.uint32)
        return torch.from_numpy(words.astype(np.int64))
    rng = torch.Generator(like.device).manual_seed(key)
    return torch.empty(like.shape, dtype=torch.int64, device=like.device).random_(0, 2**32, generator=rng)

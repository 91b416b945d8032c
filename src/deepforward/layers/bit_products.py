"""Products of zeros and ones with a matrix: sums of the rows that the ones choose, where a dense product costs more."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int32, UInt16
from torch import Tensor

from deepforward.layers.compilation import compiled

_SOURCE = Path(__file__).with_name("bit_products.cpp")
#: Row length of a table is a multiple of this many columns.
_BLOCK = 128
#: Numbers that a list has room for beyond its longest.
_SPARE = 32
#: Share of ones up to which adding rows beats a dense product in bf16 without matrix tiles; rows and columns that a list names.
_DENSEST, _LONGEST = 0.3, 2**16


@functools.cache
def kernel() -> ctypes.CDLL | None:
    """The compiled kernel, or None where there is no compiler."""
    library = compiled(_SOURCE)
    if library is not None:
        pointer, size, flag = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
        lists = [pointer, size, pointer]
        signatures: dict[str, list[Any]] = {
            "by_row": [pointer, flag, *[size] * 3, pointer, size, pointer],
            "product": [*lists, size, pointer, size, pointer, size],
            "wide_product": [*lists, size, pointer, size, pointer, size],
            "moments": [*lists, *[size] * 3, *[pointer, size] * 2, size, *[pointer] * 3, size, *[pointer] * 8],
        }
        for name, types in signatures.items():
            function = getattr(library, f"bits_{name}")
            function.argtypes, function.restype = [*types, flag], None
    return library


@functools.cache
def worthwhile() -> bool:
    """Whether this machine gains: it has a compiler and AVX-512, and no tiles that make dense products five times as fast."""
    return bool(torch.cpu._is_avx512_supported() and not torch.cpu._is_amx_tile_supported() and kernel() is not None)


@dataclass(frozen=True)
class Bits:
    """Where the ones of a matrix of zeros and ones are.

    Attributes:
        places: Columns of the ones of each row, the first `counts` of a row; what follows is undefined.
        counts: Number of ones in each row.
        columns: Number of columns.
    """

    places: UInt16[Tensor, "rows room"]
    counts: Int32[Tensor, " rows"]
    columns: int

    @classmethod
    def of(cls, values: Float[Tensor, "rows columns"]) -> Bits | None:
        """The places of the ones in bf16 or float32; None where there are other values, or adding rows would not pay."""
        rows, columns = values.shape
        wide = values.dtype == torch.float32
        fits = (wide or values.dtype == torch.bfloat16) and values.device.type == "cpu" and values.stride(1) == 1
        if not fits or not rows or max(rows, columns) >= _LONGEST or not worthwhile():
            return None
        room = columns + _SPARE
        places, counts = torch.empty(rows, room, dtype=torch.uint16), torch.empty(rows, dtype=torch.int32)
        _run("by_row", values, wide, rows, columns, values.stride(0), places, room, counts)
        least, total = int(counts.min()), int(counts.sum())
        return cls(places, counts, columns) if least >= 0 and total <= _DENSEST * values.numel() else None

    def product(self, table: Float[Tensor, "columns width"]) -> Float[Tensor, "rows width"]:
        """The product of the zeros and ones with `table`; float32, summed in float32.

        Args:
            table: In float32, or in bf16 and made by `padded`.
        """
        out = torch.empty(len(self.counts), table.shape[1])
        lists = self.places, self.places.shape[1], self.counts, len(self.counts)
        if table.dtype == torch.float32 and table.stride(1) != 1:
            table = table.contiguous()
        _run("wide_product" if table.dtype == torch.float32 else "product", *lists, table, table.stride(0), out, out.shape[1])
        return out


@dataclass(frozen=True)
class MomentGap:
    """Moments over the chains less those over the data, float32.

    Attributes:
        weight: Of products of lower and upper values, (lower, upper); centred, if there are offsets.
        lower: Of lower values.
        upper: Of upper values.
        lower_turn: weight times the offset of the upper values: what centring takes from the gradient of the lower bias.
        upper_turn: The offset of the lower values times weight: the same for the upper bias.
    """

    weight: Float[Tensor, "lower upper"]
    lower: Float[Tensor, " lower"]
    upper: Float[Tensor, " upper"]
    lower_turn: Float[Tensor, " lower"]
    upper_turn: Float[Tensor, " upper"]


def moment_gap(
    places: Bits,
    given: Float[Tensor, "rows upper"],
    dreaming: Float[Tensor, "chains upper"],
    offsets: tuple[Float[Tensor, " lower"], Float[Tensor, " upper"]],
) -> MomentGap:
    """Moments of chains less those of data, the lower values being bits.

    Args:
        places: Lower values, of the chains and then of the data.
        given: Upper values of the data, bf16.
        dreaming: Upper values of the chains, bf16.
        offsets: Of the lower and of the upper values, float32; zeros for moments about zero.
    """
    rows, chains, width = len(places.counts), *dreaming.shape
    table = torch.empty(rows, -(-width // _BLOCK) * _BLOCK, dtype=torch.bfloat16)  # what lies beyond `width` is never stored
    lists = torch.empty(places.columns, rows, dtype=torch.uint16), torch.empty(places.columns, dtype=torch.int32)
    sizes = ((places.columns, width), (places.columns,), (width,), (places.columns,), (width,))
    gap = MomentGap(*(torch.empty(size) for size in sizes))
    dreaming, given = (values if values.stride(1) == 1 else values.contiguous() for values in (dreaming, given))
    bits = places.places, places.places.shape[1], places.counts, rows, chains, places.columns
    uppers = dreaming, dreaming.stride(0), given, given.stride(0), width
    scratch = table, table.shape[1], *lists, torch.empty(2 * rows)
    _run("moments", *bits, *uppers, *offsets, *scratch, *vars(gap).values())
    return gap


def padded(values: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """A copy in bf16 whose rows lie so far apart that a kernel may read whole blocks."""
    rows, columns = values.shape
    room = torch.zeros(rows, -(-columns // _BLOCK) * _BLOCK, dtype=torch.bfloat16)
    return room[:, :columns].copy_(values)


def _run(name: str, *arguments: Tensor | float | None) -> None:
    words = (a.data_ptr() if isinstance(a, Tensor) else a for a in arguments)
    getattr(kernel(), f"bits_{name}")(*words, torch.get_num_threads())

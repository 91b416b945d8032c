"""Planes of cells that each look for one pattern in the planes below, and new planes for patterns that none has matched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Growing(nn.Module):
    """A module whose buffers gain rows, so that a saved state may have more or fewer rows than the module that loads it."""

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *given: Any) -> None:
        for name, buffer in self._buffers.items():
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and buffer is not None and saved.shape[1:] == buffer.shape[1:]:
                self._buffers[name] = buffer.new_empty(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *given)


class GrowingPlanes(Growing):
    """Pattern detection: plane p has one template, which its cell at each place compares with the window there.

    A template connects each place of the window to those planes below that were most active there when it was made, and holds
    their activities t. The response is the overlap with the activities x at the same connections (that of Ruzicka):

        r = sum min(x, t) / sum max(x, t),    in [0, 1]; 1 only where x = t

    Nothing else counts, least of all planes that grow below later: a plane's response to an image never changes, so that what
    is known stays known. Where nothing was active, outside the image for one, there is no connection.

    Args:
        window: Height and width of the window, in cells.
        synapses: Most connections at each place of the window.
        padding: Whether the window also stands at the border, cells outside being silent; only for odd windows.

    Source: Weng, Ahuja, Huang 1997, Learning recognition and segmentation using the Cresceptron, IJCV 25; there cells sum.
    """

    channels: Tensor
    templates: Tensor

    def __init__(self, window: tuple[int, int], synapses: int, *, padding: bool) -> None:
        super().__init__()
        self.window, self.synapses, self.padding = tuple(window), synapses, padding
        connections = window[0] * window[1] * synapses
        self.register_buffer("channels", torch.zeros(0, connections, dtype=torch.int64))
        self.register_buffer("templates", torch.zeros(0, connections))

    def __len__(self) -> int:
        """Number of planes."""
        return len(self.templates)

    def places(self) -> Iterator[tuple[int, int, int]]:
        """Every connection: its number, and row and column in the window."""
        for connection in range(self.templates.shape[1]):
            place = connection // self.synapses
            yield connection, place // self.window[1], place % self.window[1]

    def forward(self, below: Float[Tensor, "batch planes_below height width"]) -> Float[Tensor, "batch planes rows columns"]:
        """Responses of all planes: with `padding` as many rows and columns as below, else one for each full window."""
        values = self._padded(below)
        rows, columns = (size - window + 1 for size, window in zip(values.shape[2:], self.window, strict=True))

        def pairs() -> Iterator[tuple[Tensor, Tensor]]:
            for connection, row, column in self.places():
                seen = values[:, self.channels[:, connection], row : row + rows, column : column + columns]
                yield seen, self.templates[:, connection, None, None]

        return _overlap(pairs(), values.new_zeros(len(values), len(self), rows, columns))

    def windows(
        self, below: Float[Tensor, "batch planes_below height width"]
    ) -> Float[Tensor, "batch rows_columns places planes_below"]:
        """What the window sees at each place where it stands, row by row."""
        seen = F.unfold(self._padded(below), self.window)
        return seen.unflatten(1, (below.shape[1], -1)).permute(0, 3, 2, 1)

    def respond(self, windows: Float[Tensor, "count places planes_below"], plane: int) -> Float[Tensor, " count"]:
        """Response of one plane to each of some windows, the same to the bit as in `forward`."""
        flat, width = windows.flatten(1), windows.shape[2]

        def pairs() -> Iterator[tuple[Tensor, Tensor]]:
            for connection in range(self.templates.shape[1]):
                where = connection // self.synapses * width + self.channels[plane, connection]
                yield flat[:, where], self.templates[plane, connection]

        return _overlap(pairs(), flat.new_zeros(len(flat)))

    def add(self, window: Float[Tensor, "places planes_below"]) -> int:
        """Grow a plane for what one window sees.

        Returns:
            Its number.
        """
        strongest = window.topk(min(self.synapses, window.shape[1]), dim=1)
        missing = (0, self.synapses - strongest.values.shape[1])
        self.templates = torch.cat([self.templates, F.pad(strongest.values, missing).reshape(1, -1)])
        self.channels = torch.cat([self.channels, F.pad(strongest.indices, missing).reshape(1, -1)])
        return len(self) - 1

    def grow(self, below: Float[Tensor, "batch planes_below height width"], match: float) -> int:
        """Add planes until every window has one that responds with at least `match`: in order, the first without gets its own.

        Returns:
            Number of new planes.
        """
        known = self(below).flatten(2)
        matched = (known >= match).any(1).flatten()
        windows, before = self.windows(below).flatten(0, 1), len(self)
        unmatched = (~matched).nonzero().flatten()
        while len(unmatched):
            plane = self.add(windows[unmatched[0]])
            unmatched = unmatched[1:]
            unmatched = unmatched[self.respond(windows[unmatched], plane) < match]
        return len(self) - before

    def extra_repr(self) -> str:
        """Number of planes and how they are connected."""
        return f"planes={len(self)}, window={self.window}, synapses={self.synapses}, padding={self.padding}"

    def _padded(self, below: Tensor) -> Tensor:
        rows, columns = (size // 2 if self.padding else 0 for size in self.window)
        return F.pad(below, (columns, columns, rows, rows))


def _overlap(pairs: Iterable[tuple[Tensor, Tensor]], zero: Tensor) -> Tensor:
    """Overlap sum min(x, t) / sum max(x, t) of pairs of activities and templates, summed in order, one value at a time.

    No reduction of torch, whose rounding depends on the shape: a response must be the same number in every batch.
    """
    shared, total = zero, zero
    for seen, template in pairs:
        least = torch.minimum(seen, template)
        shared = shared + least
        total = total + (seen * (template > 0) + template - least)
    return shared / total.clamp(min=torch.finfo(zero.dtype).tiny)

"""Products of a network's Jacobian with vectors, from the graph of one pass."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from deepforward.errors import InvalidModel

#: Vectors that go through the graph together.
_TOGETHER = 64

#: Products of 32-bit numbers below this are near underflow; they are repeated with all vectors multiplied by 2^100.
_TINY, _LIFT = 1e-25, 2.0**100


class JacobianProducts:
    """The Jacobian J = d end / d start of one example of a batch as a linear map that need not fit into memory.

    Vectors are rows of float64 matrices on the CPU. They are normalised on their way, so that Jacobians far below the range of
    32-bit squares are no trouble.

    Args:
        start: Leaf that `end` was computed from, examples first.
        end: Tensor, examples first.
        row: Which example.

    Attributes:
        inputs, outputs: Numbers in one example of `start` and of `end`.

    Raises:
        InvalidModel: The two do not hold as many examples, or `end` does not depend on `start`.
    """

    def __init__(self, start: Tensor, end: Tensor, row: int = 0) -> None:
        if end.dim() == 0 or len(start) != len(end):
            raise InvalidModel(f"got shapes {tuple(start.shape)} and {tuple(end.shape)}; expected examples first in both")
        self.inputs, self.outputs = start[0].numel(), end[0].numel()
        self._start, self._end, self._row = start, end, row
        self._factor = 1.0
        self._tangent: tuple[Tensor, Tensor] | None = None
        probe = torch.ones(1, self.outputs, dtype=torch.float64)
        if not end.requires_grad or self._gradients([end], [start], end, start, probe) is None:
            raise InvalidModel("the output does not depend on the input by a path that gradients take; choose another stretch")
        self._lift_if_tiny()

    def _lift_if_tiny(self) -> None:
        probe = torch.ones(1, self.outputs, dtype=torch.float64)
        if torch.finfo(self._start.dtype).tiny > 1e-40 and float(self.transposed(probe).abs().max()) < _TINY:
            self._factor = _LIFT

    def transposed(self, vectors: Float64[Tensor, "vectors outputs"]) -> Float64[Tensor, "vectors inputs"]:
        """J^T v for each row v."""
        return self._products([self._end], [self._start], self._end, self._start, vectors)

    def forward(self, vectors: Float64[Tensor, "vectors inputs"]) -> Float64[Tensor, "vectors outputs"]:
        """J u for each row u: J^T v is linear in v, and its transpose is J.

        Raises:
            RuntimeError: An operation of the model has no second derivative.
        """
        if self._tangent is None:
            weights = torch.zeros_like(self._end, requires_grad=True)
            (pulled,) = torch.autograd.grad([self._end], [self._start], [weights], create_graph=True)
            if not pulled.requires_grad or not self._is_transpose(weights, pulled):
                raise RuntimeError("an operation of the model has no second derivative")
            self._tangent = weights, pulled
        weights, pulled = self._tangent
        return self._products([pulled], [weights], pulled, weights, vectors)

    def _is_transpose(self, weights: Tensor, pulled: Tensor) -> bool:
        """Whether v^T J (J^T v) = |J^T v|^2: an operation without a second derivative may be left out without a word."""
        v = torch.randn(1, self.outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        pulled_v = self.transposed(v)
        square = float(pulled_v.square().sum())
        found = float((v * self._products([pulled], [weights], pulled, weights, pulled_v)).sum())
        return abs(found - square) <= torch.finfo(self._start.dtype).eps ** 0.25 * square

    def matrix(self) -> Float64[Tensor, "outputs inputs"]:
        """All of J, row by row, or column by column where the inputs are fewer and the model allows it."""
        if self.inputs < self.outputs:
            try:
                return self.forward(torch.eye(self.inputs, dtype=torch.float64)).T
            except RuntimeError:
                self._tangent = None
        return self.transposed(torch.eye(self.outputs, dtype=torch.float64))

    def _products(self, of: Sequence[Tensor], by: Sequence[Tensor], like: Tensor, to: Tensor, vectors: Tensor) -> Tensor:
        norms = vectors.norm(dim=1, keepdim=True)
        unit = vectors / norms.clamp_min(torch.finfo(torch.float64).tiny)
        parts = [self._gradients(of, by, like, to, part) for part in unit.split(_TOGETHER)]
        known = [part for part in parts if part is not None]
        found = torch.cat(known) if len(known) == len(parts) else torch.zeros(len(unit), to[0].numel(), dtype=torch.float64)
        return found * norms

    def _gradients(self, of: Sequence[Tensor], by: Sequence[Tensor], like: Tensor, to: Tensor, unit: Tensor) -> Tensor | None:
        """Rows of products; None where there is no dependence."""
        weights = torch.zeros(len(unit), *like.shape, dtype=like.dtype, device=like.device)
        weights[:, self._row] = (unit * self._factor).reshape(len(unit), *like.shape[1:]).to(like)
        found = _batched(of, by, weights)
        if found is None:
            return None
        return found[:, self._row].reshape(len(unit), -1).cpu().double() / self._factor


def _batched(of: Sequence[Tensor], by: Sequence[Tensor], weights: Tensor) -> Tensor | None:
    """Gradients for a stack of weights: in one go, else one after the other (operations that cannot be vectorised)."""

    def gradient(one: Tensor, batched: bool) -> Tensor | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an operation is not vectorised, and takes longer
            return torch.autograd.grad(of, by, [one], retain_graph=True, allow_unused=True, is_grads_batched=batched)[0]

    if len(weights) > 1:
        try:
            return gradient(weights, True)
        except RuntimeError:
            pass
    parts = [gradient(one, False) for one in weights]
    known = [part for part in parts if part is not None]
    return torch.stack(known) if len(known) == len(parts) else None

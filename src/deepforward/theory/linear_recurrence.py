"""The linear recurrent network h_t = W x + U h_{t-1}: where it settles, and what of it a reader V sees.

Source: the lecture's section on fixed points; it asks V W = I and V U h = 0 of a recurrent autoencoder without sigmoids.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.errors import InvalidData, ShapeError
from deepforward.theory.fixed_points import FixedPoint


@dataclass(frozen=True)
class LinearRecurrence:
    """h_t = W x + U h_{t-1} with an input that stays.

    Attributes:
        W: (state, input) input weights.
        U: (state, state) recurrent weights.

    Raises:
        ShapeError: U is not square, or W has another number of rows.
    """

    W: Float[Tensor, "rows input"]
    U: Float[Tensor, "state columns"]

    def __post_init__(self) -> None:
        if self.U.shape[0] != self.U.shape[1] or self.W.shape[0] != self.U.shape[0]:
            got = f"W {tuple(self.W.shape)} and U {tuple(self.U.shape)}"
            raise ShapeError(f"got {got}; expected (state, input) and (state, state); transpose or cut them")

    @property
    def spectral_radius(self) -> float:
        """rho(U), the largest modulus of its eigenvalues."""
        return torch.linalg.eigvals(self.U).abs().max().item()

    def states(self, x: Float[Tensor, " input"], start: Float[Tensor, " state"], steps: int) -> Float[Tensor, "times state"]:
        """h_0 = `start`, h_1, ..., h_steps.

        h_t - h* = U^t (h_0 - h*), so the distance to the fixed point changes as rho(U)^t in the end.
        """
        states = [start]
        for _ in range(steps):
            states.append(self.W @ x + self.U @ states[-1])
        return torch.stack(states)

    def fixed_point(self, x: Float[Tensor, " input"]) -> FixedPoint:
        """h* = (I - U)^-1 W x. The states go there from anywhere if and only if it is a sink, rho(U) < 1.

        Raises:
            InvalidData: I - U is singular: there is no fixed point, or more than one.
        """
        eye = torch.eye(len(self.U), dtype=self.U.dtype, device=self.U.device)
        solution, fault = torch.linalg.solve_ex(eye - self.U, self.W @ x)
        if fault.item() or not solution.isfinite().all():
            raise InvalidData("got recurrent weights U with the eigenvalue 1; expected I - U to be invertible; scale U")
        multipliers = sorted(torch.linalg.eigvals(self.U).tolist(), key=abs, reverse=True)
        return FixedPoint(tuple(solution.tolist()), tuple(multipliers))

    def unread_states(self, V: Float[Tensor, "output state"]) -> Float[Tensor, "state unread"]:
        """Orthonormal basis of the states h with V U h = 0, which V (W x + U h) = V W x does not see.

        With V W = I, as for V the pseudo-inverse of W, the reader V gives x back from W x + U h for each of these h. Those have
        at least state - output dimensions: h need not be near 0, nor need W V be the identity (E27).
        """
        _, sizes, rows = torch.linalg.svd(V @ self.U)
        threshold = sizes.max() * max(rows.shape) * torch.finfo(sizes.dtype).eps
        return rows[int((sizes > threshold).sum()) :].T

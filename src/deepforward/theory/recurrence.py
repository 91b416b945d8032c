"""The lecture's simplified recurrent network, and its gradients in closed form.

One unit through time, h_t = w_t x_t + z_{t-1} with z_t = s_t phi(h_t) and z_0 = 0; phi is the identity unless given. A gradient
that travels from step t back to step i is multiplied by the slopes in between, so it vanishes or explodes with their product.

Source: the lecture's section on vanishing and exploding gradients, with dh_i/dw_i = x_i for its x_t (E21) and the product over
k = i ... t-1 for its k = t-1 ... i-1 (E22).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.errors import ShapeError


class Gradients(NamedTuple):
    """Derivatives of every state h_t (rows) by every parameter of step i (columns), zero where i > t.

    Attributes:
        weights: dh_t / dw_i.
        gains: dh_t / ds_i, zero on the diagonal too: s_t acts on h_{t+1} first.
    """

    weights: Float[Tensor, "time time"]
    gains: Float[Tensor, "time time"]


@dataclass(frozen=True)
class SimplifiedRecurrence:
    """h_t = w_t x_t + s_{t-1} phi(h_{t-1}).

    Attributes:
        weights: (time,) input weight w_t of every step.
        gains: (time,) recurrent gain s_t of every step; the last one acts on nothing.
        inputs: (time,) input x_t of every step.
        activation: phi, elementwise; the identity if None.

    Raises:
        ShapeError: The three are not vectors of one length.
    """

    weights: Float[Tensor, "*weights"]
    gains: Float[Tensor, "*gains"]
    inputs: Float[Tensor, "*inputs"]
    activation: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        shapes = [tuple(v.shape) for v in (self.weights, self.gains, self.inputs)]
        if len(set(shapes)) > 1 or len(shapes[0]) != 1:
            got = ", ".join(map(str, shapes))
            raise ShapeError(
                f"got weights, gains, inputs of shapes {got}; expected three vectors of one length; cut or pad them"
            )

    def states(self) -> Float[Tensor, " time"]:
        """h_1 ... h_T, through which autograd can flow."""
        states: list[Tensor] = []
        for t, drive in enumerate(self.weights * self.inputs):
            states.append(drive + self.gains[t - 1] * self._phi(states[-1]) if states else drive)
        return torch.stack(states)

    def slopes(self) -> Float[Tensor, " time"]:
        """dh_{t+1} / dh_t = s_t phi'(h_t) of every step."""
        if self.activation is None:
            return self.gains
        return self.gains * torch.func.vmap(torch.func.grad(self.activation))(self.states())

    def gradients(self) -> Gradients:
        """All gradients in closed form.

        dh_t/dw_i = x_i prod_{k=i}^{t-1} s_k phi'(h_k) and dh_t/ds_i = phi(h_i) prod_{k=i+1}^{t-1} s_k phi'(h_k).
        """
        products = products_of_slopes(self.slopes())
        shifted = torch.zeros_like(products)
        shifted[:, :-1] = products[:, 1:]
        return Gradients(weights=self.inputs * products, gains=self._phi(self.states()) * shifted)

    def _phi(self, state: Tensor) -> Tensor:
        return state if self.activation is None else self.activation(state)


def products_of_slopes(slopes: Float[Tensor, " time"]) -> Float[Tensor, "time time"]:
    """dh_t / dh_i = prod_{k=i}^{t-1} slope_k for row t and column i: 1 on the diagonal, 0 above it.

    Multiplied from t back to i, as backpropagation does, so that zero slopes are no special case and nothing is divided.
    """
    products = torch.eye(len(slopes), dtype=slopes.dtype, device=slopes.device)
    for i in range(len(slopes) - 2, -1, -1):
        products[i + 1 :, i] = products[i + 1 :, i + 1] * slopes[i]
    return products


def gains_nearing_one(count: int, sign: int) -> Float[Tensor, " count"]:
    """Gains 1 + sign / k^2 for k = 2 ... count + 1: all on one side of 1, with a product that neither vanishes nor explodes.

    For sign = -1 the product of n of them is (n + 2) / (2 n + 2), which tends to 1/2; for sign = +1 it tends to
    sinh(pi) / (2 pi) = 1.838. So s_k < 1 for all k is not enough for a vanishing gradient: |s_k| <= c < 1 is (E23).

    Returns:
        float64 gains.
    """
    k = torch.arange(2, count + 2, dtype=torch.float64)
    return 1 + sign / k**2

"""Which units of a Boltzmann machine are connected."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from deepforward.errors import InvalidOption, ShapeError


def check_connectivity(connectivity: Bool[Tensor, "units others"], units: int) -> None:
    """Refuse connections that do not join `units` units both ways.

    Raises:
        ShapeError: It is not (units, units).
        InvalidOption: It is not symmetric, or a unit is connected with itself.
    """
    if connectivity.shape != (units, units):
        raise ShapeError(
            f"got a connectivity of shape {tuple(connectivity.shape)}; expected ({units}, {units}), visible units first"
        )
    if not torch.equal(connectivity, connectivity.t()) or connectivity.diagonal().any():
        raise InvalidOption("got a connectivity that is not symmetric with a False diagonal; expected both; use c | c.t()")


def encoder_connectivity(group: int, hidden: int) -> Bool[Tensor, "units units"]:
    """Connections of the encoder problem: two groups of visible units that reach each other through hidden units only.

    Args:
        group: Units in each of the two visible groups.
        hidden: Hidden units; the groups are told apart by log2(group) of them at best.

    Source: Ackley, Hinton, Sejnowski 1985, section 4 (4-2-4 encoder).
    """
    units = 2 * group + hidden
    connected = ~torch.eye(units, dtype=torch.bool)
    connected[:group, group : 2 * group] = connected[group : 2 * group, :group] = False
    return connected

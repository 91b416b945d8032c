"""Parting examples in two, class by class."""

from __future__ import annotations

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from deepforward.errors import InvalidData, InvalidOption


def stratified(
    targets: Shaped[Tensor, "examples ..."], share: float, rng: torch.Generator, option: str = "test"
) -> tuple[Int64[Tensor, " rest"], Int64[Tensor, " held"]]:
    """Indices of (rest, held out), each ascending: of a class of c examples, round(share c) but at most c - 1 are held out.

    Examples without a class of their own (values, masks, images) count as one class.

    Args:
        targets: Class indices, or values, masks or images.
        share: Share to hold out, in (0, 1).
        rng: Chooses the examples.
        option: Name that the user knows `share` by, for messages.

    Raises:
        InvalidOption: `share` is outside (0, 1).
        InvalidData: No example would be held out.
    """
    if not 0 < share < 1:
        raise InvalidOption(f"got {option}={share:g}, expected a number between 0 and 1, ends excluded")
    has_classes = targets.ndim == 1 and not targets.is_floating_point()
    labels = targets.cpu() if has_classes else torch.zeros(len(targets), dtype=torch.int64)
    is_held = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(labels):
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=rng)
        is_held[members[order[: min(round(share * len(members)), len(members) - 1)]]] = True
    if not is_held.any():
        raise InvalidData(
            f"got {len(labels)} examples, too few to hold out {option}={share:g} of each class; raise it or add data"
        )
    return is_held.logical_not().nonzero().flatten(), is_held.nonzero().flatten()

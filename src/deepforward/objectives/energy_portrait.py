"""What an energy-based model shows of itself: its dreams, what it makes of examples, its units, weights and free energies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deepforward.errors import ShapeError, UnknownName

#: Chains of a snapshot, and sweeps of those that must be begun for it.
_SNAPSHOT_CHAINS, _SNAPSHOT_SWEEPS = 40, 200
#: Chains of a portrait and sweeps before they are looked at; some are then followed through moments so many sweeps apart.
_CHAINS, _SWEEPS = 48, 1000
_FOLLOWED, _MOMENTS, _BETWEEN = 8, 10, 20
#: Examples that are reconstructed and completed, and sweeps of a completion.
_EXAMPLES, _COMPLETION_SWEEPS = 12, 200
#: Examples and units of the map of activity; it is as wide as a picture of a report may be.
_MAP = (96, 192)
_WEIGHTS = 10_000
#: Rows that are pushed through the model at once.
_CHUNK = 1000

HALVES = ("upper", "lower", "left", "right")


@torch.no_grad()
def dreams(energy: Any, chains: Sequence[Tensor], rng: torch.Generator) -> Float[Tensor, "chains *shape"]:
    """Means of the visible units of at most 40 chains.

    Args:
        energy: A model with an energy.
        chains: Persistent chains, one tensor a layer, looked at as they stand; without any, 40 are begun and run 200 sweeps.
        rng: Draws.
    """
    if chains:
        # Training may keep chains in the format of its products; here they meet weights in full precision.
        state = tuple(values[:_SNAPSHOT_CHAINS].float() for values in chains)
    else:
        state = energy.advance(energy.start(_SNAPSHOT_CHAINS, rng), rng, _SNAPSHOT_SWEEPS)
    return _shaped(energy, energy.mean_visible(state))


@torch.no_grad()
def portrait(energy: Any, splits: Mapping[str, Tensor], binarize: str, rng: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of everything that can be shown of this model, in scaled units.

    `samples` (48, *shape): means of visible units after 1000 sweeps from independent units. `chains` (8, 10, *shape): eight of
    these followed through moments 20 sweeps apart. `reconstructions` (examples, 2, *shape): test example, and the means given
    its hidden units. `completions` (examples, 3, *shape): the upper half of a test example over a flat lower one, completed,
    and whole. `hidden_activity`, and `hidden_activity/2` of a second hidden layer and so on: mean of each unit over
    training examples. `activity_map` (examples, units): means of the first hidden layer. `weights`: a random sample of them.
    `free_energy/train` and `/test`: one number an example, nats, where it is tractable.

    Args:
        energy: A model with an energy.
        splits: Scaled examples of `train` and `test`.
        binarize: How data become values of the visible units.
        rng: Draws.
    """
    yield from _chains(energy, rng)
    visible = {name: energy.realise(energy.visible(inputs), binarize, rng) for name, inputs in splits.items()}
    shown = splits["test"][:_EXAMPLES]
    seen = visible["test"][:_EXAMPLES]
    means = energy.mean_visible(energy.clamp(seen, rng))
    yield "reconstructions", torch.stack((shown, _shaped(energy, means)), 1)
    if hasattr(energy, "fill") and len(energy.input_shape) > 1:
        yield "completions", _completions(energy, shown, seen, rng)
    yield from _activity(energy, visible["train"], rng)
    yield "weights", _weights(energy, rng)
    if hasattr(energy, "free_energy"):
        for split in ("train", "test"):
            yield f"free_energy/{split}", torch.cat([energy.free_energy(rows) for rows in visible[split].split(_CHUNK)]).float()


def known_half(shape: tuple[int, ...], given: str) -> Float[Tensor, "*shape"]:
    """1 in the half of an image that is given, 0 in the other; the middle line of an odd number is missing.

    Args:
        shape: Shape of an image, its last two axes height and width.
        given: `upper`, `lower`, `left` or `right`.

    Raises:
        UnknownName: Another half.
        ShapeError: The shape is not that of an image.
    """
    if given not in HALVES:
        raise UnknownName("half", given, HALVES)
    if len(shape) < 2:
        raise ShapeError(f"got examples of shape {tuple(shape)}; expected images, which alone have an upper half; leave it out")
    known = torch.zeros(shape)
    half_height, half_width = shape[-2] // 2, shape[-1] // 2
    if given == "upper":
        known[..., :half_height, :] = 1
    elif given == "lower":
        known[..., shape[-2] - half_height :, :] = 1
    elif given == "left":
        known[..., :half_width] = 1
    else:
        known[..., shape[-1] - half_width :] = 1
    return known


def _chains(energy: Any, rng: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    state = energy.advance(energy.start(_CHAINS, rng), rng, _SWEEPS)
    yield "samples", _shaped(energy, energy.mean_visible(state))
    state, moments = tuple(values[:_FOLLOWED] for values in state), []
    for moment in range(_MOMENTS):
        state = energy.advance(state, rng, _BETWEEN) if moment else state
        moments.append(_shaped(energy, energy.mean_visible(state)))
    yield "chains", torch.stack(moments, 1)


def _completions(energy: Any, shown: Tensor, seen: Tensor, rng: torch.Generator) -> Tensor:
    known = known_half(energy.input_shape, "upper").to(shown)
    completed = energy.fill(seen, known.flatten().expand_as(seen), rng, steps=_COMPLETION_SWEEPS)
    flat = (shown.amin() + shown.amax()) / 2
    given = torch.where(known > 0, shown, flat)
    return torch.stack((given, torch.where(known > 0, shown, _shaped(energy, completed)), shown), 1)


def _activity(energy: Any, visible: Tensor, rng: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    layers = [energy.per_unit(energy.clamp(rows, rng))[1:] for rows in visible.split(_CHUNK)]
    for number, parts in enumerate(zip(*layers, strict=True), start=1):
        values = torch.cat(parts).float()
        if not values.shape[1]:  # a machine of visible units alone
            continue
        yield "hidden_activity" if number == 1 else f"hidden_activity/{number}", values.mean(0)
        if number == 1:
            yield "activity_map", values[: _MAP[0], : _MAP[1]]


def _weights(energy: Any, rng: torch.Generator) -> Tensor:
    """A random sample of the parameters that are neither bias nor precision, with repetition."""
    own = [p for name, p in energy.named_parameters() if not name.endswith(("bias", "precision"))]
    weights = torch.cat([p.detach().float().flatten() for p in own])
    return weights[torch.randint(len(weights), (min(len(weights), _WEIGHTS),), generator=rng, device=rng.device)]


def _shaped(energy: Any, visible: Tensor) -> Tensor:
    (values,) = energy.per_unit((visible,))
    return values.float().reshape(len(values), *energy.input_shape)

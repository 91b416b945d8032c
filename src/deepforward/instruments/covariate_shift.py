"""Internal covariate shift: how much a layer's gradient changes because the layers before it have moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from deepforward.errors import InvalidModel, InvalidOption, UnknownName
from deepforward.instruments.batch_gradient import BatchGradient, norm
from deepforward.instruments.examination import Examination
from deepforward.instruments.instrument import as_real
from deepforward.instruments.layer_hooks import layers_of
from deepforward.instruments.left_as_found import left_as_found


@dataclass(frozen=True)
class Shift:
    """Means over the batches, one entry a layer.

    Attributes:
        layers: Names, in the order of the forward pass.
        differences: |G - G'|, Santurkar's measure; it scales with the gradient.
        relative: |G - G'| / |G|.
        cosines: Cosine of the angle between G and G'; 1 is no shift.
    """

    layers: tuple[str, ...]
    differences: tuple[float, ...]
    relative: tuple[float, ...]
    cosines: tuple[float, ...]


class CovariateShift(Examination[Shift]):
    """Compares the gradient G of a layer with G', its gradient on the same batch after the layers before it took a step.

    G_i = grad_i L(W_1, ..., W_k) and G'_i = grad_i L(W_1 - lr G_1, ..., W_{i-1} - lr G_{i-1}, W_i, ..., W_k). A batch costs one
    forward and backward pass, and one more a layer: 1 + `count` training steps. A layer is a module with parameters of its own;
    a parameter that several share belongs to the first. Random draws (dropout) are the same in both passes.

    Args:
        lr: Step size of the layers before, which should be that of the training that is asked about.
        count: How many layers to measure, spread evenly from the second to the last.
        layers: Names of the layers to measure instead.

    Raises:
        InvalidOption: `lr` or `count` is not positive.

    Source: Santurkar, Tsipras, Ilyas, Madry 2018, How does batch normalization help optimization?, definition 2.1.
    """

    def __init__(self, lr: float = 0.1, *, count: int = 4, layers: Sequence[str] | None = None) -> None:
        if not 0 < lr < float("inf") or count < 1:
            raise InvalidOption(f"got lr={lr}, count={count}; expected a positive rate and at least 1 layer")
        self.lr, self.count, self.layers = lr, count, layers

    def _measure(self, model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor]) -> Shift:
        """Take both gradients of every chosen layer on every batch.

        Raises:
            InvalidModel: Fewer than two layers have parameters that require gradients.
            UnknownName: There is no such layer.
            InvalidOption: The layer asked for is the first, before which none moves.
        """
        with left_as_found(model, moves=True):
            owned = _owned(model, lambda: loss(model, batches[0]))
            chosen = self._chosen(list(owned))
            rows = [self._shifts(model, owned, chosen, batch, loss) for batch in batches]
        differences, relative, cosines = (
            tuple(fmean(row[name][column] for row in rows) for name in chosen) for column in range(3)
        )
        return Shift(tuple(chosen), differences, relative, cosines)

    def _chosen(self, names: list[str]) -> list[str]:
        if len(names) < 2:
            raise InvalidModel(f"got a model with {len(names)} trained layers; a shift needs one before another")
        if self.layers is None:
            last = len(names) - 1
            count = min(self.count, last)
            return [names[1 + round(k * (last - 1) / max(1, count - 1))] for k in range(count)]
        for name in self.layers:
            if name not in names:
                raise UnknownName("layer", name, names)
            if name == names[0]:
                raise InvalidOption(f"got the first layer '{name}'; expected one that has trained layers before it")
        return sorted(self.layers, key=names.index)

    def _shifts(
        self,
        model: nn.Module,
        owned: Mapping[str, list[nn.Parameter]],
        chosen: Sequence[str],
        batch: Any,
        loss: Callable[[nn.Module, Any], Tensor],
    ) -> dict[str, tuple[float, float, float]]:
        """|G - G'|, |G - G'| / |G| and their cosine, by layer, on one batch."""
        names = list(owned)
        parameters: list[Tensor] = [parameter for own in owned.values() for parameter in own]
        gradient = BatchGradient(model, parameters, batch, loss)
        before = dict(zip(map(id, parameters), gradient()[1], strict=True))
        origin = [parameter.detach().clone() for parameter in parameters]
        found = {}
        for name in chosen:
            moved: list[Tensor] = [parameter for earlier in names[: names.index(name)] for parameter in owned[earlier]]
            with torch.no_grad():
                torch._foreach_add_(moved, [before[id(parameter)] for parameter in moved], alpha=-self.lr)
            after = dict(zip(map(id, parameters), gradient()[1], strict=True))
            with torch.no_grad():
                torch._foreach_copy_(parameters, origin)
            found[name] = _compare([before[id(p)] for p in owned[name]], [after[id(p)] for p in owned[name]])
        return found


def _owned(model: nn.Module, run: Callable[[], Tensor]) -> dict[str, list[nn.Parameter]]:
    """The layers with parameters to train, in the order in which a forward pass first calls them; those not called last."""
    layers = layers_of(model)
    called: dict[str, None] = {}
    handles = [
        module.register_forward_pre_hook(lambda module, inputs, name=name: called.setdefault(name))
        for name, module in layers.items()
    ]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    owned: dict[str, list[nn.Parameter]] = {}
    seen: set[int] = set()
    for name in [*called, *(name for name in layers if name not in called)]:
        own = [p for p in layers[name].parameters(recurse=False) if p.requires_grad and id(p) not in seen]
        seen.update(map(id, own))
        if own:
            owned[name] = own
    return owned


def _compare(before: list[Tensor], after: list[Tensor]) -> tuple[float, float, float]:
    difference, size, other = norm(torch._foreach_sub(before, after)), norm(before), norm(after)
    dot = sum(float((as_real(a).double() * as_real(b).double()).sum()) for a, b in zip(before, after, strict=True))
    if size == 0 or other == 0:
        return difference, 0.0 if difference == 0 else difference / max(size, other), float(size == other)
    return difference, difference / size, dot / (size * other)

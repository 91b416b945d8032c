"""One pass of a model for the phase: where its gradient can be cut, and how much of it arrives there."""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils._pytree import tree_map_only

from deepforward.errors import InvalidModel
from deepforward.instruments.gradient_path import crossings
from deepforward.instruments.instrument import norm_dtype
from deepforward.instruments.layer_hooks import first_tensor, in_backward
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.model_call import refusing, watching_ends
from deepforward.layers.recognition import AFFINE

#: Examples whose numbers are kept, to see what function leads from one layer to the next.
_KEPT = 2


@dataclass(frozen=True)
class Place:
    """A tensor that all of the gradient passes: the output of an affine layer, or of a block.

    Attributes:
        key: `name#call`.
        module: What it is the output of.
        shape: Its shape, batch included.
        square: Mean square.
        input_shape, input_square: Shape and mean square of the input; None and NaN if that is no tensor.
        output, given: The first examples of the output and of the input.
        gradient: Norm of the loss gradient by it; NaN if it was not taken.
        gain: |J^T v|^2 / |v|^2, J being the Jacobian from here to the next place and v random; NaN if it was not taken.
    """

    key: str
    module: nn.Module
    shape: tuple[int, ...]
    square: float
    input_shape: tuple[int, ...] | None
    input_square: float
    output: Tensor
    given: Tensor | None
    gradient: float = math.nan
    gain: float = math.nan

    @property
    def width(self) -> int:
        """Channels of images, features otherwise."""
        return self.shape[1] if len(self.shape) > 3 else self.shape[-1]

    @property
    def out_of_range(self) -> bool:
        """Whether the gradient is too small or too large for its type."""
        size = self.gradient / math.sqrt(max(math.prod(self.shape), 1))
        smallest = 1e8 * torch.finfo(self.output.dtype).tiny
        return self.output.dtype != torch.float64 and not smallest <= size < math.inf


@dataclass(frozen=True)
class _Sight:
    place: Place
    edge: GradientEdge
    since: int  # how many sights there were when the call began
    affine: bool


def places_of(
    model: nn.Module, run: Callable[[nn.Module], Tensor], random_from: Callable[[Place, Place], bool], rng: torch.Generator
) -> list[Place]:
    """Places in the order of the forward pass, with the gradient at each.

    Of blocks, those are taken that no affine layer inside cuts: residual blocks as a whole.

    Args:
        model: The model.
        run: Runs it and returns the loss.
        random_from: Whether a random vector is to be sent from the second of two places in a row to the first.
        rng: Draws these.
    """
    with left_as_found(model), _Sights(model) as sights, refusing(model, "differentiated"):
        with watching_ends(model, model, model) as ends:
            loss = run(model)
        if not loss.requires_grad:
            raise InvalidModel(
                f"the loss of {type(model).__name__} does not depend on anything that gradients reach; thaw a layer"
            )
        start = None if ends.start is None else get_gradient_edge(ends.start)
        crossed = crossings(get_gradient_edge(loss), start, [sight.edge for sight in sights.all])
        chosen = [sights.all[at] for at in crossed if sights.all[at].affine or not _is_cut(at, crossed, sights.all)]
        if not chosen:
            return []
        gradients = torch.autograd.grad([loss], [sight.edge for sight in chosen], retain_graph=True)
        places = [replace(s.place, gradient=_norm(g)) for s, g in zip(chosen, gradients, strict=True)]
        for at, (here, there) in enumerate(itertools.pairwise(chosen)):
            if random_from(here.place, there.place):
                places[at] = replace(places[at], gain=_gain(here.edge, there, rng))
    return places


def _is_cut(at: int, crossed: Sequence[int], sights: Sequence[_Sight]) -> bool:
    """Whether the gradient can be cut at an affine layer inside the call of this block."""
    return any(sights[other].affine and sights[at].since <= other < at for other in crossed)


def _gain(here: GradientEdge, there: _Sight, rng: torch.Generator) -> float:
    like = there.place.output
    v = torch.randn(there.place.shape, generator=rng).to(like.device, like.dtype)
    (pulled,) = torch.autograd.grad([there.edge], [here], [v], retain_graph=True)
    return (_norm(pulled) / _norm(v)) ** 2


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=norm_dtype(tensor)))


class _Sights:
    """All outputs of affine layers and of blocks in the first call of a model."""

    def __init__(self, model: nn.Module) -> None:
        self.all: list[_Sight] = []
        self._model = model
        self._calls: Counter[str] = Counter()
        self._begun: list[int] = []

    def __enter__(self) -> _Sights:
        self._handles = []
        for name, module in self._model.named_modules():
            is_affine = isinstance(module, AFFINE)
            if is_affine or (module is not self._model and next(module.children(), None) is not None):
                self._handles.append(module.register_forward_pre_hook(self._begin))
                self._handles.append(module.register_forward_hook(self._seeing(name or type(module).__name__, is_affine)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _begin(self, module: nn.Module, args: Any) -> None:
        if not in_backward():
            self._begun.append(len(self.all))

    def _seeing(self, name: str, is_affine: bool) -> Callable[[nn.Module, Any, Any], None]:
        def see(module: nn.Module, args: Any, output: Any) -> None:
            if in_backward():
                return
            since, tensor, given = self._begun.pop(), first_tensor(output), first_tensor(args)
            key = f"{name}#{self._calls[name]}"
            self._calls[name] += 1
            if tensor is not None and tensor.requires_grad:
                place = Place(
                    *(key, module, tuple(tensor.shape), _mean_square(tensor)),
                    None if given is None else tuple(given.shape),
                    math.nan if given is None else _mean_square(given),
                    tensor.detach()[:_KEPT].clone(),
                    None if given is None else given.detach()[:_KEPT].clone(),
                )
                self.all.append(_Sight(place, get_gradient_edge(tensor), since, is_affine))

        return see


def _mean_square(tensor: Tensor) -> float:
    return _norm(tensor.detach()) ** 2 / max(tensor.numel(), 1)


def double_twin(model: nn.Module) -> nn.Module:
    """A copy of a model that computes in float64, with inputs and outputs of 32 bits."""
    twin = copy.deepcopy(model).double()

    def widen(module: nn.Module, args: Any, kwargs: Any) -> Any:
        return tree_map_only(Tensor, lambda x: x.double() if x.is_floating_point() else x, (args, kwargs))

    def narrow(module: nn.Module, args: Any, output: Any) -> Any:
        return tree_map_only(Tensor, lambda x: x.float() if x.dtype == torch.float64 else x, output)

    twin.register_forward_pre_hook(widen, with_kwargs=True)
    twin.register_forward_hook(narrow)
    return twin

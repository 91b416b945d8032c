"""How a loss calls the model: with which arguments, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from deepforward.errors import DeepforwardError, InvalidModel, first_line
from deepforward.instruments.layer_hooks import first_tensor
from deepforward.instruments.left_as_found import left_as_found

B = TypeVar("B")


@dataclass(frozen=True)
class ModelCall:
    """One call of a model.

    Attributes:
        args: Positional arguments, as the model got them.
        kwargs: Keyword arguments.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def inputs(self) -> tuple[str, Tensor] | None:
        """Name and value of the input: the first tensor of numbers, be they real or integers (tokens), masks left out.

        The name is that of the keyword, or `args[0]`.
        """
        places = [*((f"args[{i}]", value) for i, value in enumerate(self.args)), *self.kwargs.items()]
        for name, value in places:
            for leaf in tree_leaves(value):
                if isinstance(leaf, Tensor) and leaf.dim() > 0 and leaf.dtype != torch.bool:
                    return name, leaf
        return None

    def rows(self, first: int, last: int) -> ModelCall:
        """The same call for some of the examples: every tensor with as many rows as the input is cut."""
        found = self.inputs()
        if found is None:
            return self
        examples = len(found[1])

        def cut(tensor: Tensor) -> Tensor:
            return tensor[first:last] if tensor.dim() > 0 and len(tensor) == examples else tensor

        args, kwargs = tree_map_only(Tensor, cut, (self.args, dict(self.kwargs)))
        return ModelCall(args, kwargs)

    def again(self, model: nn.Module) -> Any:
        """Call the model in this way; its arguments are copied, since it may change them."""
        args, kwargs = tree_map_only(Tensor, lambda x: x.detach().clone(), (self.args, dict(self.kwargs)))
        return model(*args, **kwargs)


def call_of(model: nn.Module, batch: B, loss: Callable[[nn.Module, B], Tensor]) -> ModelCall:
    """Run a loss once and keep how it first called the model; the model is left as found.

    Raises:
        InvalidModel: The loss does not call the model.
    """
    calls: list[ModelCall] = []

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not calls:
            calls.append(ModelCall(*tree_map_only(Tensor, lambda x: x.detach().clone(), (args, kwargs))))

    handle = model.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with left_as_found(model):
            loss(model, batch)
    finally:
        handle.remove()
    if not calls:
        raise InvalidModel(f"the loss never calls {type(model).__name__} itself; let it run the model that it is given")
    return calls[0]


@contextmanager
def refusing(model: nn.Module, action: str) -> Iterator[None]:
    """What fails inside is refused in one line: the model does not allow `action`."""
    try:
        yield
    except DeepforwardError:
        raise
    except RuntimeError as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise InvalidModel(f"{type(model).__name__} cannot be {action} ({why}); take another instrument") from error


@dataclass
class Ends:
    """Both ends of a stretch of a model in one pass.

    Attributes:
        start: What is differentiated by: a leaf, from which the rest of the pass was computed.
        end: What is differentiated.
        source: Where `start` is: `input`, or the layer whose output it is, where the input is no real number (tokens).
    """

    start: Tensor | None = None
    end: Tensor | None = None
    source: str = "input"


@contextmanager
def watching_ends(model: nn.Module, first: nn.Module, last: nn.Module) -> Iterator[Ends]:
    """While open, the first pass from the input of `first` to the output of `last` fills the ends that are given.

    Of several tensors the first real one is taken. Where `first` is fed with integers, the ends begin at the first real output
    of a layer inside it, an embedding.
    """
    ends, names = Ends(), {module: name for name, module in model.named_modules()}

    def leaf(value: Any) -> Any:
        """The value with its first real tensor replaced by a copy of a leaf: in-place operations may follow."""
        found = first_tensor(value)
        if found is None:
            return value
        ends.start = start = found.detach().clone().requires_grad_()
        return tree_map_only(Tensor, lambda x: start.clone() if x is found else x, value)

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = ModelCall(args, kwargs).inputs()
        if ends.start is not None or found is None or not found[1].is_floating_point():
            return None
        return leaf((args, kwargs))

    def embed(module: nn.Module, args: Any, output: Any) -> Any:
        if ends.start is not None or first_tensor(output) is None:
            return None
        ends.source = names[module] or type(module).__name__
        return leaf(output)

    def leave(module: nn.Module, args: Any, output: Any) -> Any:
        found = first_tensor(output)
        if ends.end is not None or ends.start is None or found is None:
            return None
        ends.end = found
        return tree_map_only(Tensor, lambda x: x.clone() if x is found else x, output)

    handles = [first.register_forward_pre_hook(enter, with_kwargs=True)]
    layers = [module for module in first.modules() if next(module.children(), None) is None]
    handles += [module.register_forward_hook(embed) for module in layers if module is not last or module is first]
    handles.append(last.register_forward_hook(leave))
    try:
        with torch.enable_grad():
            yield ends
    finally:
        for handle in handles:
            handle.remove()

"""What a unit responded to: its activation sent back down to the pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from deepforward.errors import InvalidModel, InvalidOption, ShapeError, UnknownName, first_line
from deepforward.instruments.layer_hooks import first_tensor
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.wrappers import plain_name, unwrapped

#: How a rectifier passes the signal on its way down.
RULES = ("deconvnet", "guided", "gradient")

#: Names of torch's functions that are rectifiers, and of those that are other activations.
_RECTIFIERS = {"relu", "relu_"}
_OTHERS = {
    *("tanh", "sigmoid", "gelu", "leaky_relu", "elu", "selu", "celu", "silu", "mish", "prelu", "rrelu", "softplus", "softsign"),
    *("hardtanh", "hardsigmoid", "hardswish", "logsigmoid", "erf", "atan"),
}


def project_back(
    model: nn.Module, inputs: Float[Tensor, "batch *shape"], layer: str, channel: int, rule: str = "deconvnet"
) -> Float[Tensor, "batch *shape"]:
    """Of each example, what in its pixels excited the strongest unit of one channel.

    A signal of 1 starts at that unit, at 0 everywhere else, and is sent down: through a convolution by its transposed filters,
    through max pooling to the place where the maximum was (the switches of the way up; where pools overlap, signals add),
    through batch normalisation by its running scale, and through a rectifier, where s is the signal and x the rectifier's
    input, as

        deconvnet: max(s, 0)            whatever x was
        guided:    max(s, 0) [x > 0]    along units that were active only
        gradient:  s [x > 0]            the derivative of the activation by the pixels (a saliency map)

    All but the rectifiers is what a backward pass does anyway, so that any network of rectifiers is projected, skip
    connections and functional calls included. Without rectifiers all rules are the derivative. A unit at exactly 0 did not
    respond: its picture is blank. Zeiler and Fergus begin with the activation instead of 1, which scales the picture.

    Args:
        model: A module; it is run in evaluation mode and left as found.
        inputs: Examples as the model takes them.
        layer: Name of a submodule that gives (batch, channel, *positions), or (batch, units); of several calls the last counts.
        channel: Number of the channel or unit, from 0.
        rule: One of `RULES`.

    Returns:
        One picture an example, in the inputs' shape; positive pixels excite the unit.

    Raises:
        UnknownName: No such layer or rule.
        InvalidOption: No such channel.
        ShapeError: The layer gives no channels, or the model refuses the inputs.
        InvalidModel: The layer is not run or does not depend on the inputs, or a rule for rectifiers meets other activations.

    Source:
        Zeiler and Fergus 2014, Visualizing and understanding convolutional networks, ECCV, section 2.1; Springenberg,
        Dosovitskiy, Brox, Riedmiller 2015, Striving for simplicity: the all convolutional net, ICLR workshop (guided, and the
        three rules compared); Simonyan, Vedaldi, Zisserman 2014, Deep inside convolutional networks, ICLR workshop (gradient).
    """
    if rule not in RULES:
        raise UnknownName("rule", rule, RULES)
    module = _submodule(unwrapped(model), layer)
    with torch.inference_mode(False), torch.enable_grad(), left_as_found(model):
        model.eval()
        pixels = inputs.detach().clone().requires_grad_()
        strongest = _strongest(_response(model, module, pixels, layer, rule), layer, channel)
        if not strongest.requires_grad:
            raise InvalidModel(f"the output of '{layer}' has no gradient; expected one by the inputs; choose another layer")
        (picture,) = torch.autograd.grad(strongest, pixels, (strongest != 0).to(strongest.dtype), allow_unused=True)
    if picture is None:
        raise InvalidModel(f"the output of '{layer}' does not depend on the inputs; choose another layer")
    return picture


def _submodule(model: nn.Module, layer: str) -> nn.Module:
    names = {plain_name(name): module for name, module in model.named_modules() if name}
    if layer not in names:
        raise UnknownName("layer", layer, names)
    return names[layer]


def _response(model: nn.Module, module: nn.Module, pixels: Tensor, layer: str, rule: str) -> Tensor:
    """What the layer gives, its graph going down to the pixels by the rule."""
    rectifiers = _Rectifiers(rule)
    seen: list[tuple[Tensor | None, set[str]]] = []
    handle = module.register_forward_hook(lambda _, __, output: seen.append((first_tensor(output), set(rectifiers.others))))
    try:
        with rectifiers:
            model(pixels)
    except RuntimeError as error:
        raise ShapeError(f"the model refuses inputs of shape {tuple(pixels.shape)}: {first_line(error)}; mend them") from error
    finally:
        handle.remove()
    if not seen:
        raise InvalidModel(f"layer '{layer}' is not run by the model; choose one that is")
    response, others = seen[-1]
    if others and rule != "gradient":
        raise InvalidModel(f"got {', '.join(sorted(others))} below '{layer}'; '{rule}' expects rectifiers only; take gradient")
    if response is None or response.dim() < 2 or len(response) != len(pixels):
        given = "no tensor" if response is None else f"shape {tuple(response.shape)}"
        raise ShapeError(f"layer '{layer}' gives {given}; expected (batch, channel, ...); choose another layer")
    return response


def _strongest(response: Tensor, layer: str, channel: int) -> Tensor:
    """The largest value of the channel in each example, one position of it where there are several."""
    if not 0 <= channel < response.shape[1]:
        raise InvalidOption(f"got channel {channel}; expected one of the {response.shape[1]} of '{layer}', from 0")
    return response[:, channel].flatten(1).max(1).values if response.dim() > 2 else response[:, channel]


class _Rectifiers(TorchFunctionMode):
    """While it is on, rectifiers pass gradients by the rule, whether they are modules or functions; others are noted."""

    def __init__(self, rule: str) -> None:
        super().__init__()
        self.backward = {"deconvnet": _Deconvnet, "guided": _Guided}.get(rule)
        self.others: set[str] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in _OTHERS:
            self.others.add(name)
        if name not in _RECTIFIERS or self.backward is None:
            return func(*args, **options)
        values = args[0] if args else options["input"]
        in_place = name == "relu_" or options.get("inplace", False)
        return self.backward.apply(values, in_place)  # type: ignore[no-untyped-call]


class _Rectifier(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, in_place: bool) -> Tensor:
        if in_place:
            ctx.mark_dirty(values)
        result = values.relu_() if in_place else values.relu()
        ctx.save_for_backward(result)
        return result


class _Deconvnet(_Rectifier):
    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None]:
        return signal.relu(), None


class _Guided(_Rectifier):
    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        return signal.relu() * (result > 0), None

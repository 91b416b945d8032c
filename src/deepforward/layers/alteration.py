"""Changes to any built module by name, the way in which a prescription reaches a stranger's network."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidModel, InvalidOption, NoEffect, UnknownName
from deepforward.layers.hybridization import hybridize_dilation
from deepforward.layers.initialization import critical_, he_
from deepforward.layers.insertion import insert_batch_normalization, insert_skips, swap_activations
from deepforward.layers.orthogonal import Orthogonal
from deepforward.layers.recognition import AFFINE
from deepforward.layers.widening import grow_dilation
from deepforward.layers.wiring import trace


def _critical_initialization(module: nn.Module, example: Tensor, rng: torch.Generator, *, orthogonal: str = "false") -> None:
    kinds: dict[str, Orthogonal] = {"false": False, "true": True, "delta": "delta"}
    if orthogonal not in kinds:
        raise InvalidOption(
            f"critical-initialization got orthogonal={orthogonal}; expected one of {', '.join(kinds)}; choose one"
        )
    critical_(module, example, rng, orthogonal=kinds[orthogonal])


def _he_initialization(module: nn.Module, example: Tensor, rng: torch.Generator) -> None:
    if not any(isinstance(child, AFFINE) for child in module.modules()):
        raise NoEffect(f"He initialisation found no Linear or Conv layer in {type(module).__name__}; choose other changes")
    he_(module, rng)


def _batch_normalization(module: nn.Module, example: Tensor, rng: torch.Generator) -> None:
    insert_batch_normalization(module, example)


def _residual(module: nn.Module, example: Tensor, rng: torch.Generator, *, scale: float | None = None) -> None:
    insert_skips(module, example, scale)


def _activation(module: nn.Module, example: Tensor, rng: torch.Generator, *, name: str) -> None:
    swap_activations(module, example, name)


def _hybrid_dilation(module: nn.Module, example: Tensor, rng: torch.Generator) -> None:
    hybridize_dilation(module, example)


def _growing_dilation(module: nn.Module, example: Tensor, rng: torch.Generator) -> None:
    grow_dilation(module, example)


#: Name of an alteration -> function(module, example, rng, **options) that changes the module in place.
ALTERATIONS: Mapping[str, Callable[..., None]] = {
    "critical-initialization": _critical_initialization,
    "he-initialization": _he_initialization,
    "batch-normalization": _batch_normalization,
    "residual": _residual,
    "activation": _activation,
    "hybrid-dilation": _hybrid_dilation,
    "growing-dilation": _growing_dilation,
}


def alter(
    module: nn.Module, example_inputs: Float[Tensor, "batch *shape"], alterations: Sequence[str], rng: torch.Generator
) -> nn.Module:
    """A changed copy of a built module; its own code is not touched.

    Args:
        module: Any module that takes one tensor; left as it is.
        example_inputs: A batch that it accepts, two examples or more.
        alterations: Changes in order, each `name` or `name?key=value&...`: `critical-initialization[?orthogonal=true|delta]`,
            `he-initialization`, `batch-normalization`, `residual[?scale=0.2]`, `activation?name=gelu`,
            `hybrid-dilation`, `growing-dilation`.
        rng: Source of all draws.

    Returns:
        The copy, which has been run once on the example.

    Raises:
        UnknownName: No such alteration or activation.
        InvalidOption: An option that the alteration does not have, or a value of the wrong kind.
        NoEffect: An alteration would change nothing; the message says why.
        InvalidModel: The module cannot be copied or fails on the example, before or after.
    """
    requests = [_parse(text) for text in alterations]
    try:
        altered = copy.deepcopy(module)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InvalidModel(f"{type(module).__name__} cannot be copied ({reason}); expected copy.deepcopy to work") from error
    for change, options in requests:
        change(altered, example_inputs, rng, **options)
    if requests:
        _check(altered, example_inputs, alterations)
    return altered


def _check(altered: nn.Module, example_inputs: Tensor, alterations: Sequence[str]) -> None:
    try:
        trace(altered, example_inputs)
    except InvalidModel as error:
        raise InvalidModel(
            f"after {', '.join(alterations)} {error}; the forward code relies on the replaced layers: choose other changes"
        ) from error


def _parse(text: str) -> tuple[Callable[..., None], dict[str, Any]]:
    name, _, query = text.partition("?")
    if name not in ALTERATIONS:
        raise UnknownName("alteration", name, ALTERATIONS)
    change = ALTERATIONS[name]
    accepted = {
        key: parameter
        for key, parameter in inspect.signature(change).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(options.keys() - accepted.keys())
    missing = [key for key, p in accepted.items() if p.default is inspect.Parameter.empty and key not in options]
    if unknown or missing:
        expected = ", ".join(accepted) or "none"
        raise InvalidOption(f"alteration '{text}' got options {sorted(options)}, expected {expected}; write name?key=value")
    return change, {key: _value(text, value, str(accepted[key].annotation)) for key, value in options.items()}


def _value(text: str, value: str, annotation: str) -> object:
    if annotation.startswith("float"):
        try:
            return float(value)
        except ValueError:
            raise InvalidOption(f"alteration '{text}' got '{value}', expected a number") from None
    return value

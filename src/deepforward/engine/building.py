"""A name and options -> a module, and whether it fits the data."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepforward import catalogue
from deepforward.errors import DeepforwardError, InvalidModel, InvalidOption, ShapeError, first_line


def build_model(name: str, options: Mapping[str, Any], input_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
    """The module that `name` (a card, or `file.py:factory`) makes for this data.

    A factory is given those of `input_shape`, `num_outputs` and `num_classes` that it takes by name.

    Raises:
        UnknownName: No such card.
        InvalidModel: The file or factory cannot be loaded, raises, or returns no module.
        InvalidOption: The factory refuses an option.
    """
    model = call_factory(name, options, input_shape, num_outputs)
    if not isinstance(model, nn.Module):
        given = (
            "a model with batches and a loss, which only `diagnose` takes" if isinstance(model, tuple) else type(model).__name__
        )
        raise InvalidModel(f"factory of '{name}' returned {given}; expected a torch.nn.Module")
    return model


def call_factory(name: str, options: Mapping[str, Any], input_shape: tuple[int, ...], num_outputs: int) -> Any:
    """What `name` makes, be it a module or not; otherwise as `build_model`."""
    factory = load_factory(name) if ":" in name else catalogue.load("models", name)
    offered = {"input_shape": input_shape, "num_outputs": num_outputs, "num_classes": num_outputs}
    accepted = _accepted(factory, offered)
    try:
        inspect.signature(factory).bind(**accepted, **options)
    except TypeError as error:
        raise InvalidOption(f"model '{name}': {error}; it takes {inspect.signature(factory)}") from error
    try:
        return factory(**accepted, **options)
    except DeepforwardError:
        raise
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        if ":" in name:
            raise InvalidModel(f"factory of '{name}' raised {said}; mend it") from error
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise InvalidOption(
            f"model '{name}' cannot be built with {given or 'these data'} ({said}); change the options"
        ) from error


def load_factory(name: str) -> Callable[..., Any]:
    """The callable that `file.py:factory` names. This runs the file: the only code that a user names to run.

    Raises:
        InvalidModel: No such file, the file raises, or it has no such callable.
    """
    path_text, _, attribute = name.rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise InvalidModel(f"model file '{path}' does not exist; expected file.py:factory or a listed name")
    spec = importlib.util.spec_from_file_location(f"deepforward_user_{path.stem}", path.resolve())
    if spec is None or spec.loader is None:
        raise InvalidModel(f"model file '{path}' is not a Python file; expected file.py:factory")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling inside the user's file look their module up here
    sys.path.insert(0, str(path.resolve().parent))  # so that the file finds its siblings, as a script would
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InvalidModel(f"model file '{path}' raised {type(error).__name__}: {first_line(error)}; mend it") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise InvalidModel(f"model file '{path}' has no callable '{attribute}'; expected file.py:factory")
    return factory


def _accepted(factory: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the offered arguments that a factory takes by name."""
    parameters = inspect.signature(factory).parameters
    return {name: value for name, value in offered.items() if name in parameters}


def check_shapes(model: nn.Module, example: Tensor, output_shape: tuple[int, ...] | None) -> None:
    """Run two examples through the model and name the layer that does not fit.

    Raises:
        ShapeError: A layer refuses its input, or the output is not (2, *output_shape); None stands for any shape.
    """
    inside: list[str] = []
    names = {module: name for name, module in model.named_modules()}

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs if isinstance(x, Tensor))
        inside.append(f"layer '{names.get(module, '?') or 'model'}' ({type(module).__name__}) got input of shape {shapes}")

    def leave(module: nn.Module, inputs: object, output: object) -> None:
        inside.pop()

    handles = [hook for m in model.modules() for hook in (m.register_forward_pre_hook(enter), m.register_forward_hook(leave))]
    modes = {module: module.training for module in model.modules()}
    device = next((p.device for p in model.parameters()), example.device)
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = model(example.to(device))
    except DeepforwardError:
        raise
    except Exception as error:
        place = inside[-1] if inside else "the model"
        wanted = f"make it fit examples of shape {tuple(example.shape[1:])}"
        raise ShapeError(f"{place} and failed: {first_line(error)}; {wanted}") from error
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    if output_shape is None:
        if not isinstance(output, Tensor) or output.shape[:1] != (len(example),):
            given = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise ShapeError(f"model gives {given} for {len(example)} examples; expected a tensor with a row for each")
    elif not isinstance(output, Tensor) or output.shape != (len(example), *output_shape):
        got = tuple(output.shape[1:]) if isinstance(output, Tensor) else type(output).__name__
        raise ShapeError(f"model gives {got} for each example; expected {output_shape} for this data and objective")

"""Recipe -> the parts of a run: data splits, scaling, model, objective, optimisers, arithmetic."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from deepforward import catalogue
from deepforward.data import Dataset, Scaling, Split
from deepforward.data.dataset import Batch
from deepforward.engine.device import Arithmetic, choose
from deepforward.engine.randomness import stream
from deepforward.engine.recipe import Recipe
from deepforward.errors import DeepforwardError, InvalidModel, InvalidOption, NoEffect, ShapeError
from deepforward.layers.alteration import alter
from deepforward.layers.fusion import Fused, fuse
from deepforward.objectives import Objective

#: Optimisers of torch whose fused kernel updates all parameters in one pass.
_FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)

#: Training examples that an objective sees before the run, for statistics.
_PREPARED = 10_000

#: Largest training split that is kept on the device as a whole: a batch is then an index, not a transfer.
_RESIDENT_BYTES = 4 * 2**30


@dataclass
class Parts:
    """What a recipe is made into. `forward` is what training steps call: `model`, perhaps compiled or fused."""

    recipe: Recipe
    data: Dataset
    train: Split
    validation: Split | None
    scaling: Scaling
    model: nn.Module
    forward: nn.Module
    objective: Objective
    optimizers: dict[str, torch.optim.Optimizer]
    arithmetic: Arithmetic

    def batch(self, split: Split, indices: Tensor | slice = slice(None)) -> Batch:
        """Scaled examples of `split`, all or some, on the device."""
        inputs, targets = (
            # On a CPU ten times as fast as indexing with a tensor where values are bytes.
            values.index_select(0, indices) if isinstance(indices, Tensor) else values[indices]
            for values in (split.inputs, split.targets)
        )
        inputs = inputs.to(self.arithmetic.device, non_blocking=True)
        targets = targets.to(self.arithmetic.device, non_blocking=True)
        return Batch(self.arithmetic.place(self.scaling(inputs)), targets)


def assemble(recipe: Recipe, data: Dataset, model: nn.Module | None = None, *, altered: bool = False) -> Parts:
    """Build every part of a complete recipe; the global generators must be seeded by the caller (`randomness.isolated`).

    Args:
        recipe: A complete recipe.
        data: Its data, loaded.
        model: A built module to train instead of the one the recipe names; its parameters may lie on any device.
        altered: Whether that module has the recipe's alterations already.

    Raises:
        DeepforwardError: Whatever in the recipe does not fit: unknown names, options, shapes.
    """
    if recipe.validation:
        split_seed = recipe.seed if recipe.split_seed is None else recipe.split_seed
        train, validation = data.hold_out(recipe.validation, stream(split_seed, "split"))
    else:
        train, validation = data.train, None
    scaling = Scaling.fit(recipe.scaling or "none", train.inputs)
    objective = _construct("objective", recipe.objective or "", recipe.objective_options)
    if not data.classes and objective.metric == "accuracy":
        raise InvalidOption(f"objective '{recipe.objective}' needs classes but {data.name} has real targets; use squared-error")
    _check_progress(recipe, objective)
    outputs = objective.num_outputs(len(data.classes), data.shape)
    example = scaling(train.inputs[: min(len(train), 64)])
    if model is None:
        # Where the objective leaves it open, a model that asks for outputs is built as if for a classifier or a regression.
        model = build_model(recipe.model, recipe.model_options, data.shape, outputs or len(data.classes) or 1)
    else:
        model = model.to("cpu")  # where the examples are that altering and preparing look at
    if recipe.alterations and not altered:
        model = alter(model, example, recipe.alterations, stream(recipe.seed, "model"))
    check_shapes(model, example[:2], outputs)
    objective.prepare(model, scaling(train.spread(_PREPARED).inputs), stream(recipe.seed, "preparation"))
    arithmetic = choose(recipe, model, data.shape, len(train))
    model = model.to(arithmetic.device)
    if arithmetic.channels_last:
        cast(Any, model).to(memory_format=torch.channels_last)  # torch's annotations lack this overload
    forward = _forward(recipe, model, arithmetic, example)
    return Parts(
        recipe=recipe,
        data=data,
        train=_resident(train, arithmetic.device),
        validation=validation,
        scaling=scaling.to(arithmetic.device),
        model=model,
        forward=forward,
        objective=objective.to(arithmetic.device),
        optimizers={role: build_optimizer(recipe, model.get_submodule(role), arithmetic) for role in objective.roles},
        arithmetic=replace(arithmetic, fuse=isinstance(forward, Fused)),
    )


def _check_progress(recipe: Recipe, objective: Objective) -> None:
    """Refuse what reads the loss as progress where it is none.

    Raises:
        InvalidOption: The recipe finds its rate by the loss, or stops by it.
    """
    asks = {"learning_rate": recipe.learning_rate == "find", "patience": recipe.patience is not None}
    name = next((name for name, asked in asks.items() if asked), "")
    if name and not objective.descends:
        value = getattr(recipe, name)
        advice = "leave it out" if name == "patience" else "give a number"
        raise InvalidOption(f"{name} is {value!r}, but the loss of '{recipe.objective}' does not tell progress; {advice}")


def _forward(recipe: Recipe, model: nn.Module, arithmetic: Arithmetic, example: Tensor) -> nn.Module:
    """What training steps call.

    Raises:
        NoEffect: The recipe insists on fusing and nothing can be fused.
    """
    if arithmetic.compile:
        return cast(nn.Module, torch.compile(model))
    if not arithmetic.fuse:
        return model
    try:
        with arithmetic.autocast():
            return fuse(model, arithmetic.place(example))
    except NoEffect:
        if recipe.fuse == "on":
            raise
        return model


def _resident(split: Split, device: torch.device) -> Split:
    """The split on the device, unless it is so large that it would crowd out the model."""
    if device.type == "cpu" or split.inputs.nbytes > _RESIDENT_BYTES:
        return split
    return Split(split.inputs.to(device), split.targets.to(device))


def build_model(name: str, options: Mapping[str, Any], input_shape: tuple[int, ...], num_outputs: int | None) -> nn.Module:
    """The module that `name` (a card, or `file.py:factory`) makes for this data.

    A factory is given those of `input_shape`, `num_outputs` and `num_classes` that it takes by name.

    Raises:
        UnknownName: No such card.
        InvalidModel: The file or factory cannot be loaded, raises, or returns no module.
        InvalidOption: The factory refuses an option.
    """
    factory = load_factory(name) if ":" in name else catalogue.load("models", name)
    offered = {"input_shape": input_shape} | ({"num_outputs": num_outputs, "num_classes": num_outputs} if num_outputs else {})
    accepted = _accepted(factory, offered)
    try:
        inspect.signature(factory).bind(**accepted, **options)
    except TypeError as error:
        raise InvalidOption(f"model '{name}': {error}; it takes {inspect.signature(factory)}") from error
    try:
        model = factory(**accepted, **options)
    except DeepforwardError:
        raise
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {_first_line(error)}"
        if ":" in name:
            raise InvalidModel(f"factory of '{name}' raised {said}; mend it") from error
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise InvalidOption(
            f"model '{name}' cannot be built with {given or 'these data'} ({said}); change the options"
        ) from error
    if not isinstance(model, nn.Module):
        raise InvalidModel(f"factory of '{name}' returned {type(model).__name__}; expected a torch.nn.Module")
    return model


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
        raise InvalidModel(f"model file '{path}' raised {type(error).__name__}: {_first_line(error)}; mend it") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise InvalidModel(f"model file '{path}' has no callable '{attribute}'; expected file.py:factory")
    return factory


def build_optimizer(recipe: Recipe, module: nn.Module, arithmetic: Arithmetic) -> torch.optim.Optimizer:
    """The recipe's optimiser over the parameters of `module` that require gradients.

    Raises:
        InvalidOption: Nothing to train, or the optimiser refuses an option.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise InvalidOption(f"model '{recipe.model}' has no parameter that requires a gradient; nothing can be trained")
    kind = catalogue.load("optimizers", recipe.optimizer or "")
    options = dict(recipe.optimizer_options or {})
    if recipe.weight_decay:
        options["weight_decay"] = recipe.weight_decay
    if kind in _FUSED and arithmetic.device.type in ("cpu", "cuda"):
        options.setdefault("fused", True)
    rate = recipe.learning_rate if isinstance(recipe.learning_rate, (int, float)) else 0.0
    try:
        return kind(parameters, lr=rate, **options)
    except (TypeError, ValueError) as error:
        raise InvalidOption(f"optimizer '{recipe.optimizer}' refuses its options: {_first_line(error)}") from error


def check_shapes(model: nn.Module, example: Tensor, num_outputs: int | None) -> None:
    """Run two examples through the model and name the layer that does not fit.

    Raises:
        ShapeError: A layer refuses its input, or the output is not (2, num_outputs); None stands for any number.
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
        raise ShapeError(f"{place} and failed: {_first_line(error)}; {wanted}") from error
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    if num_outputs is None:
        if not isinstance(output, Tensor) or output.shape[:1] != (len(example),):
            given = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise ShapeError(f"model gives {given} for {len(example)} examples; expected a tensor with a row for each")
    elif not isinstance(output, Tensor) or output.shape != (len(example), num_outputs):
        got = tuple(output.shape[1:]) if isinstance(output, Tensor) else type(output).__name__
        raise ShapeError(f"model gives {got} for each example; expected ({num_outputs},) for this data and objective")


def _accepted(factory: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the offered arguments that a factory takes by name."""
    parameters = inspect.signature(factory).parameters
    return {name: value for name, value in offered.items() if name in parameters}


def _construct(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    try:
        return catalogue.load(f"{kind}s", name)(**options)
    except TypeError as error:
        raise InvalidOption(f"{kind} '{name}' refuses its options: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

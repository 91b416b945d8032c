"""Recipe -> the parts of a run: data splits, scaling, model, objective, optimisers, arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from deepforward import catalogue
from deepforward.data import Dataset, Scaling, Split
from deepforward.data.augmentation import Augmentation
from deepforward.data.dataset import Batch
from deepforward.engine.building import build_model, call_factory, check_shapes
from deepforward.engine.device import Arithmetic, choose
from deepforward.engine.randomness import stream
from deepforward.engine.recipe import USUAL, Recipe, is_for
from deepforward.errors import InvalidOption, NoEffect, first_line
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
    augmentation: Augmentation

    def batch(self, split: Split, indices: Tensor | slice = slice(None)) -> Batch:
        """Scaled examples of `split`, all or some, on the device."""
        inputs, targets = (
            # On a CPU ten times as fast as indexing with a tensor where values are bytes.
            values.index_select(0, indices) if isinstance(indices, Tensor) else values[indices]
            for values in (split.inputs, split.targets)
        )
        inputs = inputs.to(self.arithmetic.device, non_blocking=True)
        targets = targets.to(self.arithmetic.device, non_blocking=True)
        if targets.dtype == torch.uint8:  # masks, which are kept small
            targets = targets.long()
        return Batch(self.arithmetic.place(self.scaling(inputs)), targets)

    def unscaled(self, values: Tensor) -> Tensor:
        """What the model gives for inputs (rows, ...), in the units and shape of the data (rows, *shape), on the CPU."""
        return self.scaling.inverse(values.float().reshape(len(values), *self.data.shape)).cpu()


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
    if not is_for(recipe.objective or "", data.task):
        raise InvalidOption(f"objective '{recipe.objective}' is not for {data.task}, as {data.name} is; use {USUAL[data.task]}")
    _check_progress(recipe, objective)
    augmentation = Augmentation(recipe.augmentation or (), data.shape)
    shape = objective.output_shape(data)
    example = scaling(train.inputs[: min(len(train), 64)])
    if model is None:
        # Where the objective leaves it open, a model that asks for outputs is built as if for a classifier or a regression.
        model = build_model(recipe.model, recipe.model_options, data.shape, _num_outputs(shape, data))
    else:
        model = model.to("cpu")  # where the examples are that altering and preparing look at
    if recipe.alterations and not altered:
        model = alter(model, example, recipe.alterations, stream(recipe.seed, "model"))
    check_shapes(model, example[:2], shape)
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
        augmentation=augmentation,
    )


def build(recipe: Recipe, data: Dataset) -> Any:
    """What the recipe's model names makes for this data: a module, or whatever else a factory returns."""
    shape = _construct("objective", recipe.objective or "", recipe.objective_options).output_shape(data)
    return call_factory(recipe.model, recipe.model_options, data.shape, _num_outputs(shape, data))


def _num_outputs(shape: tuple[int, ...] | None, data: Dataset) -> int:
    """How many outputs, or channels of them, a factory is asked for."""
    return shape[0] if shape else len(data.classes) or 1


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
        raise InvalidOption(f"optimizer '{recipe.optimizer}' refuses its options: {first_line(error)}") from error


def _construct(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    try:
        return catalogue.load(f"{kind}s", name)(**options)
    except TypeError as error:
        raise InvalidOption(f"{kind} '{name}' refuses its options: {first_line(error)}") from error

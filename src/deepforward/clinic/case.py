"""A module and what it is looked at by: a loss, and a few batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from deepforward import catalogue
from deepforward.clinic.chance import chance_level
from deepforward.data import Batch, Dataset, Scaling, load
from deepforward.data.checks import check_labels
from deepforward.engine.batches import draw_batches
from deepforward.engine.building import check_shapes
from deepforward.errors import InvalidData, InvalidModel
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.wrappers import unwrapped
from deepforward.objectives import Objective

#: Runs a model on a batch and returns the number to differentiate.
Loss: TypeAlias = Callable[[nn.Module, Any], Tensor]

#: Examples that are looked at to see how the inputs are scaled.
SAMPLE = 1024

#: Training examples whose rates give the chance level of a likelihood.
FITTED = 10_000


@dataclass(frozen=True)
class Case:
    """What passes of their own need to look at a module.

    Attributes:
        module: The module, without wrappers.
        batches: What `loss` takes, at least one.
        loss: Runs the module on a batch in training mode.
        objective: Name of the objective's card, or of the function that was given as one.
        descends: Whether a healthy training lowers the loss.
        chance: Loss of a model that knows only how often each class occurs; None if unknown.
        input_scale: Root mean square of what the module is fed; None if unknown.
    """

    module: nn.Module
    batches: Sequence[Any]
    loss: Loss
    objective: str
    descends: bool = True
    chance: float | None = None
    input_scale: float | None = None


def case_of(
    module: nn.Module,
    data: Any,
    *,
    objective: str | Loss = "cross-entropy",
    scaling: str = "standardise",
    batches: int = 4,
    batch_size: int = 64,
    seed: int = 0,
) -> Case:
    """Choose the batches and the loss.

    Args:
        module: Any module; weights, buffers, gradients and modes are left as found. With an objective's name, one that takes
            and gives one tensor; else whatever the callable calls.
        data: A source specification, a Dataset, or (inputs, targets) as tensors, arrays or lists. With a callable objective, a
            source or Dataset gives it `Batch(inputs, targets)`, and anything else is an iterable of its batches.
        objective: Name of the objective's card, or a callable (model, batch) -> scalar.
        scaling: How the inputs of a source or Dataset are scaled; what else is given is fed as it is.
        batches: How many batches to look at.
        batch_size: Examples in each, where they are drawn here.
        seed: Fixes which examples.

    Raises:
        InvalidModel: The module has uninitialised (lazy) parameters, is TorchScript, or gives no scores for labels.
        ShapeError: A layer refuses its input.
        InvalidData: Inputs and targets differ in number, or there are none, or a label has no output.
    """
    module = unwrapped(module)
    rng = torch.Generator().manual_seed(seed)
    if not isinstance(objective, str):
        return _own_case(module, data, objective, scaling=scaling, batches=batches, batch_size=batch_size, rng=rng)
    inputs, targets = _examples(data, scaling)
    training_signal = catalogue.load("objectives", objective)()
    like = next((parameter for parameter in module.parameters() if parameter.is_floating_point()), inputs)
    device, inputs = like.device, inputs.to(like.dtype) if inputs.is_floating_point() else inputs
    if type(training_signal).prepare is not Objective.prepare:
        module = copy.deepcopy(module)  # the objective sets biases from the data, and the caller's are to stay
        training_signal.prepare(module, inputs[:FITTED].to(device), torch.Generator(device).manual_seed(seed))
    if training_signal.metric == "accuracy":
        _check_labels(module, inputs[:2].to(device), targets)

    def loss(model: nn.Module, indices: Tensor) -> Tensor:
        batch = _batch(inputs, targets, indices, device)
        return next(iter(training_signal.signals(model.train(), batch, rng))).loss

    return Case(
        module=module,
        batches=draw_batches(len(inputs), batch_size, rng)[:batches],
        loss=loss,
        objective=objective,
        descends=training_signal.descends,
        chance=chance_level(objective, {}, targets),
        input_scale=rms(inputs[:SAMPLE]),
    )


def _own_case(
    module: nn.Module, data: Any, objective: Loss, *, scaling: str, batches: int, batch_size: int, rng: torch.Generator
) -> Case:
    """A case with somebody's own loss, which a source feeds with its examples and anything else with its items."""
    scale = None
    if isinstance(data, (str, Dataset)):
        inputs, targets = _examples(data, scaling)
        device = next((parameter.device for parameter in module.parameters()), inputs.device)
        chosen = draw_batches(len(inputs), batch_size, rng)[:batches]
        found: list[Any] = [_batch(inputs, targets, indices, device) for indices in chosen]
        scale = rms(inputs[:SAMPLE])
    elif isinstance(data, Iterable) and not isinstance(data, Tensor | Mapping):
        found = list(islice(data, batches))
    else:
        raise InvalidData(
            f"got {type(data).__name__}, expected an iterable of batches for the loss; put a single one in a list"
        )
    if not found:
        raise InvalidData("got no batches, expected at least one for the loss")
    name = getattr(objective, "__name__", type(objective).__name__)
    return Case(module, found, lambda model, batch: objective(model.train(), batch), name, input_scale=scale)


def _batch(inputs: Tensor, targets: Tensor, indices: Tensor, device: torch.device) -> Batch:
    chosen = targets[indices].to(device)
    return Batch(inputs[indices].to(device), chosen if chosen.is_floating_point() else chosen.long())  # masks are kept small


def _examples(data: str | Dataset | Sequence[Any], scaling: str) -> tuple[Tensor, Tensor]:
    if isinstance(data, (str, Dataset)):
        train = (load(data) if isinstance(data, str) else data).train
        return Scaling.fit(scaling, train.inputs)(train.inputs), train.targets
    try:
        inputs, targets = (torch.as_tensor(part) for part in data)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidData(
            f"got {type(data).__name__}; expected a source such as 'digits', a Dataset, or (inputs, targets) as arrays"
        ) from error
    if not inputs.ndim or not targets.ndim or len(inputs) != len(targets) or not len(inputs):
        counts = [len(part) if part.ndim else "one number as" for part in (inputs, targets)]
        raise InvalidData(f"got {counts[0]} inputs and {counts[1]} targets, expected as many of each, at least one")
    return inputs, targets if targets.is_floating_point() else targets.long()


def _check_labels(module: nn.Module, example: Tensor, targets: Tensor) -> None:
    """Refuse labels without an output in the module: on an accelerator they would end the process."""
    with left_as_found(module), torch.no_grad():
        try:
            outputs = module.eval()(example)
        except Exception:
            check_shapes(module, example, ())  # names the layer
            raise
    if not isinstance(outputs, Tensor):
        given = type(outputs).__name__
        raise InvalidModel(
            f"{type(module).__name__} gives {given}, expected a tensor of scores; give a loss(model, batch) as objective"
        )
    if outputs.ndim == 2:
        check_labels("targets", targets, tuple(map(str, range(outputs.shape[1]))))


def rms(values: Tensor) -> float:
    """Root mean square."""
    return float(values.double().square().mean().sqrt())

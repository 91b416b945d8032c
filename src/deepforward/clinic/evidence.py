"""Run, module or probe -> evidence."""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import Tensor, nn

from deepforward import catalogue
from deepforward.clinic.chance import chance_level
from deepforward.clinic.finding import Evidence
from deepforward.data import Batch, Dataset, Scaling, load
from deepforward.engine import Run
from deepforward.errors import InvalidData
from deepforward.instruments import examine

#: Examples that are looked at to see how the inputs are scaled.
_SAMPLE = 1024


def evidence_of(run: Run, twin: Evidence | None = None) -> Evidence:
    """What a run left in its folder, finished or not."""
    recipe, train = run.recipe, run.data.train
    scaling = Scaling.fit(recipe.scaling or "none", train.inputs)
    objective = recipe.objective or ""
    return Evidence(
        readings=run.readings,
        history=run.history,
        recipe=asdict(recipe),
        descends=catalogue.load("objectives", objective).descends,
        chance=chance_level(objective, recipe.objective_options, train.targets),
        input_scale=_scale(scaling(train.inputs[:_SAMPLE])),
        twin=twin,
    )


def probe_module(
    module: nn.Module,
    data: str | Dataset | tuple[Tensor, Tensor],
    *,
    objective: str = "cross-entropy",
    batches: int = 4,
    batch_size: int = 64,
    seed: int = 0,
) -> Evidence:
    """Run `module` forward and backward over a few batches in training mode, and keep what the instruments see.

    Args:
        module: Any module that takes one tensor; weights, buffers, gradients and modes are left as found.
        data: A source specification or a Dataset (standardised first), or (inputs, targets), which are fed as they are.
        objective: Name of the objective's card.
        batches: How many batches to look at.
        batch_size: Examples in each.
        seed: Fixes which examples.

    Raises:
        InvalidModel: The module has uninitialised (lazy) parameters.
        InvalidData: Inputs and targets differ in number, or there are none.
    """
    inputs, targets = _examples(data)
    rng = torch.Generator().manual_seed(seed)
    training_signal = catalogue.load("objectives", objective)()
    device = next((p.device for p in module.parameters()), inputs.device)

    def loss(model: nn.Module, indices: Tensor) -> Tensor:
        batch = Batch(inputs[indices].to(device), targets[indices].to(device))
        return next(iter(training_signal.signals(model.train(), batch, rng))).loss

    chosen = torch.split(torch.randperm(len(inputs), generator=rng), batch_size)[:batches]
    return Evidence(
        readings=examine(module, chosen, loss),
        descends=training_signal.descends,
        chance=chance_level(objective, {}, targets),
        input_scale=_scale(inputs[:_SAMPLE]),
    )


def _examples(data: str | Dataset | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    if isinstance(data, tuple):
        inputs, targets = data
        if len(inputs) != len(targets) or not len(inputs):
            raise InvalidData(f"got {len(inputs)} inputs and {len(targets)} targets, expected as many of each, at least one")
        return inputs, targets
    dataset = load(data) if isinstance(data, str) else data
    return Scaling.fit("standardise", dataset.train.inputs)(dataset.train.inputs), dataset.train.targets


def _scale(inputs: Tensor) -> float:
    return float(inputs.double().square().mean().sqrt())

"""Training of deconvolutional networks: maps inferred, filters fitted to them, one layer at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deepforward.data.dataset import Batch, Dataset
from deepforward.errors import InvalidModel, InvalidOption
from deepforward.layers.filter_learning import fit_filters, unit_norm
from deepforward.objectives.objective import Objective, Signal, expect_whole_numbers
from deepforward.objectives.surrogate import follow

#: Test examples that a portrait shows.
_SHOWN = 8
#: Training examples that the scale of a layer's input is measured on.
_MEASURED = 200


class SparseCoding(Objective):
    """Sparse coding of one layer of a deconvolutional network: weight / 2 |sum_k z_k * f_k - y|^2 + |z|_1 of its input y.

    In a step the layer infers the maps z of the batch, and conjugate gradients lead from its filters f to better ones f' for
    these maps. The signal is f - f', so that plain gradient descent of rate r moves the filters by r of the way: 1 is the
    alternation of Zeiler et al., smaller rates average it over batches, and a rate that falls to 0 settles. Filters count with
    unit norm.

    Args:
        layer: Number of the layer that is trained, from 0, on what the layers below make of the examples; None is the highest.
        steps: Steps of conjugate gradients.

    Raises:
        InvalidOption: A number out of range.

    Source: Zeiler, Krishnan, Taylor, Fergus 2010, Deconvolutional networks, CVPR, section 3.
    """

    def __init__(self, layer: int | None = None, steps: int = 2) -> None:
        super().__init__()
        expect_whole_numbers("sparse coding", 0, **({} if layer is None else {"layer": layer}))
        expect_whole_numbers("sparse coding", 1, steps=steps)
        self.layer, self.steps = layer, steps

    def output_shape(self, data: Dataset) -> tuple[int, ...] | None:
        """The model's own number of features."""
        return None

    def prepare(self, model: nn.Module, inputs: Tensor, rng: torch.Generator) -> None:
        """Measure the input of the layer, in units of which its weight counts.

        Raises:
            InvalidModel: The model has no layers that infer maps.
            InvalidOption: There is no such layer.
        """
        self._number(model)
        with torch.no_grad():
            layer, seen = self._layer(model, inputs[:_MEASURED])
            layer.measure(seen)

    @torch.no_grad()
    def _step(self, model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The way to better filters, the mean objective, and the share of the maps that is zero."""
        layer, inputs = self._layer(model, inputs)
        code = layer.infer(inputs).code
        fitted = unit_norm(fit_filters(code.maps, inputs, layer.unit_filters(), self.steps))
        return layer.filters - fitted, code.objective[-1].mean(), (code.maps == 0).float().mean()

    def signals(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Iterator[Signal]:
        """One signal, which reaches the filters of the layer only."""
        step, loss, zeros = self._step(model, batch.inputs.float())
        yield Signal(follow(model, {f"stack.{self._number(model)}.filters": step}, loss), log={"zeros": zeros})

    @torch.no_grad()
    def score(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Sums of the objective, of the squared error and of the squared input, and of the share of the maps that is zero."""
        layer, inputs = self._layer(model, batch.inputs.float())
        code = layer.infer(inputs).code
        return {
            "loss": code.objective[-1].sum(),
            "unexplained": (code.fit - inputs).square().sum(),
            "square": inputs.square().sum(),
            "zeros": (code.maps == 0).float().mean((1, 2, 3)).sum(),
        }

    def summarise(self, sums: Mapping[str, Tensor], examples: int) -> Mapping[str, float]:
        """Means of an example; `unexplained` is the squared error as a share of the squared input of the layer."""
        square = max(float(sums["square"]), 1e-30)
        means = {name: float(sums[name]) / examples for name in ("loss", "zeros")}
        return {**means, "unexplained": float(sums["unexplained"]) / square}

    def portrait(self, model: nn.Module, splits: Mapping[str, Tensor], rng: torch.Generator) -> Mapping[str, Tensor]:
        """`layers` (examples, 1 + layers, *shape): test examples and their reconstruction from each layer that is trained.

        `atoms/1` (filters, channels, side, side) and so on: what a unit of each map of a layer adds to an image.
        """
        trained: Any = model
        depths = range(1, self._number(model) + 2)
        shown = splits["test"][:_SHOWN]
        told = torch.stack([shown, *(trained.reconstruct(shown, depth) for depth in depths)], 1)
        return {"layers": told, **{f"atoms/{depth}": trained.atoms(depth) for depth in depths}}

    def _number(self, model: nn.Module) -> int:
        """Number of the layer that is trained."""
        stack = getattr(model, "stack", None)
        if stack is None or not all(hasattr(layer, "unit_filters") for layer in stack):
            raise InvalidModel(f"sparse coding got {type(model).__name__}; expected layers of filters: deconvolutional-network")
        number = len(stack) - 1 if self.layer is None else self.layer
        if number >= len(stack):
            raise InvalidOption(f"got layer={number} of a model of {len(stack)} layers; expected 0 to {len(stack) - 1}")
        return number

    def _layer(self, model: nn.Module, inputs: Tensor) -> tuple[Any, Tensor]:
        """The layer that is trained, and its input."""
        trained: Any = model
        *below, layer = trained.stack[: self._number(model) + 1]
        for lower in below:
            inputs = lower(inputs)
        return layer, inputs

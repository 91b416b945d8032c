"""Greedy training of deep models with energies: one layer at a time, as a machine of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from deepforward.data.dataset import Batch, Dataset
from deepforward.errors import InvalidModel, InvalidOption
from deepforward.objectives.energy import ContrastiveDivergence
from deepforward.objectives.energy_likelihood import log_likelihoods
from deepforward.objectives.objective import Objective, Signal, expect_whole_numbers


class LayerwiseContrastiveDivergence(Objective):
    """Contrastive divergence of one layer of a stack; its data are the means of the layers below, which stand still.

    The model offers `stack`, its layers as models with energies, each of which called on the examples of the one below gives
    the means of its hidden units. If it has `begin_layer`, that is called before with the number of the layer; if it has
    `compose`, that makes a trained stack into the whole whose likelihood is measured.

    Args:
        layer: Number of the layer that is trained, from 0.
        options: Those of `ContrastiveDivergence`. `binarize` concerns the means, too, that stand for the data of upper layers.

    Raises:
        InvalidOption: A number out of range.

    Source: Hinton, Osindero, Teh 2006, A fast learning algorithm for deep belief nets, Neural Computation 18, section 4.
    """

    descends: ClassVar[bool] = False
    metric: ClassVar[str] = "log_likelihood"
    maximize: ClassVar[bool] = True

    def __init__(self, layer: int = 0, **options: Any) -> None:
        super().__init__()
        expect_whole_numbers("layerwise contrastive divergence", 0, layer=layer)
        self.layer = layer
        self.inner = ContrastiveDivergence(**options)

    def output_shape(self, data: Dataset) -> tuple[int, ...] | None:
        """Those of the model, whatever they are for."""
        return None

    def prepare(self, model: nn.Module, inputs: Tensor, rng: torch.Generator) -> None:
        """Biases and chains of the layer at the statistics of its data.

        Raises:
            InvalidModel: The model has no stack of layers.
            InvalidOption: There is no such layer.
            InvalidData: Values that the visible units cannot take.
        """
        self._machine(model)  # is there one?
        begin = getattr(model, "begin_layer", None)
        if callable(begin):
            begin(self.layer)
        self.inner.prepare(*self._layer(model, inputs), rng)

    def signals(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Iterator[Signal]:
        """One signal, which reaches the parameters of the layer only."""
        machine, inputs = self._layer(model, batch.inputs)
        yield from self.inner.signals(machine, batch._replace(inputs=inputs), rng)

    def score(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Sums over the examples of what `ContrastiveDivergence` measures, of the layer."""
        with torch.autocast(batch.inputs.device.type, enabled=False):  # a score is no place to round
            machine, inputs = self._layer(model, batch.inputs)
        return self.inner.score(machine, batch._replace(inputs=inputs), rng)

    def observe(self, model: nn.Module, rng: torch.Generator) -> Mapping[str, float]:
        """What `ContrastiveDivergence` observes, of the layer."""
        return self.inner.observe(self._machine(model), rng)

    def conclude(self, model: nn.Module, splits: Mapping[str, Tensor], rng: torch.Generator) -> Mapping[str, float]:
        """Log-likelihood, or a bound of it, of the whole model, once its last layer is trained and if it has one."""
        if self.layer + 1 < len(self._stack(model)) or not hasattr(model, "log_unnormalised"):
            return {}
        whole = copy.deepcopy(model)
        compose = getattr(whole, "compose", None)
        if callable(compose):
            compose()
        inner = self.inner
        return log_likelihoods(whole, splits, inner.binarize, rng, chains=inner.ais_chains, temperatures=inner.ais_temperatures)

    def snapshot(self, model: nn.Module, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Dreams of the layer, where they are examples."""
        return self.inner.snapshot(self._machine(model), rng) if self._sees_examples(model) else {}

    def portrait(self, model: nn.Module, splits: Mapping[str, Tensor], rng: torch.Generator) -> Mapping[str, Tensor]:
        """What the layer shows of itself, where it sees examples."""
        return self.inner.portrait(self._machine(model), splits, rng) if self._sees_examples(model) else {}

    def _sees_examples(self, model: nn.Module) -> bool:
        return not self.layer and self._machine(model).input_shape == model.input_shape

    def _stack(self, model: nn.Module) -> Any:
        stack = getattr(model, "stack", None)
        if stack is None:
            raise InvalidModel(
                f"layerwise contrastive divergence got {type(model).__name__}; expected a model with a stack of layers, "
                "for example deep-belief-network"
            )
        return stack

    def _machine(self, model: nn.Module) -> Any:
        return self._machines(model)[self.layer]

    def _machines(self, model: nn.Module) -> Any:
        """The stack, if it has the layer."""
        stack = self._stack(model)
        if self.layer >= len(stack):
            raise InvalidOption(f"got layer={self.layer} of a model of {len(stack)} layers; expected 0 to {len(stack) - 1}")
        return stack

    @torch.no_grad()
    def _layer(self, model: nn.Module, inputs: Tensor) -> tuple[Any, Tensor]:
        """The machine that is trained, and its examples."""
        *below, machine = list(self._machines(model))[: self.layer + 1]
        for lower in below:
            inputs = lower(inputs)
        return machine, inputs

"""Deep Boltzmann machines made into perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidOption
from deepforward.models.energy.copies import CopiedRBM
from deepforward.models.energy.deep_boltzmann import DeepBoltzmannMachine
from deepforward.models.energy.greedy import descent
from deepforward.models.energy.stack import layer_sizes

_HIDDEN = (500, 1000)


class DeepBoltzmannClassifier(nn.Module):
    """A perceptron of sigmoids that begins as the mean field of a deep Boltzmann machine, trained first and without labels.

    With q(k) the means of hidden layer k in the mean field of `machine` given the example v, an input like v itself,
    h(1) = sigmoid(c(1) + v W(1) + q(2) A(1)), h(k) = sigmoid(c(k) + h(k-1) W(k) + q(k+1) A(k)), nothing from above for the last
    one, which an affine layer maps to logits. W, c and A are the perceptron's own. Until the first pass of training they are
    made the machine's, A(k) = W(k+1)', before each pass, so that h(1) is the mean field where that has converged; then they
    move on their own, and the machine stands still.

    Args:
        input_shape: Shape of one example, values in [0, 1]; flattened.
        num_outputs: Number of outputs.
        hidden: Units of each hidden layer from the lowest up, at least two layers.
        dropout: Share of the hidden units of each layer left out in a training step of the classifier.
        input_dropout: The same of the inputs, the means q among them.

    Raises:
        InvalidOption: Fewer than two hidden layers, or a number out of range.
        ShapeError: On calling it with inputs of another shape.

    Source:
        Salakhutdinov and Hinton 2009, Deep Boltzmann machines, AISTATS, section 3.3, there with two hidden layers; with more,
        the same identity holds for each.
    """

    begun: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        hidden: Sequence[int] = _HIDDEN,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, share in (("dropout", dropout), ("input_dropout", input_dropout)):
            if not 0 <= share < 1:
                raise InvalidOption(f"deep Boltzmann classifier got {name}={share}; expected a share from 0 to below 1")
        self.input_shape = tuple(input_shape)
        self.machine = DeepBoltzmannMachine(input_shape, hidden=hidden)
        sizes = [len(weight) for weight in self.machine.weights] + [hidden[-1]]
        self.layers = nn.ModuleList(nn.Linear(below, above) for below, above in pairwise(sizes))
        self.feedback = nn.ModuleList(nn.Linear(above, below, bias=False) for below, above in pairwise(sizes[1:]))
        self.input_dropout, self.dropout = nn.Dropout(input_dropout), nn.Dropout(dropout)
        self.output = nn.Linear(hidden[-1], num_outputs)
        # Whether the perceptron has gone its own way.
        self.register_buffer("begun", torch.tensor(False))

    @property
    def bf16_products(self) -> bool:
        """Pretraining multiplies zeros and ones, and fine-tuning is noisier than bf16."""
        return True

    # Greedy training.

    @property
    def stack(self) -> list[CopiedRBM]:
        """Those of `machine`."""
        return self.machine.stack

    def begin_layer(self, layer: int) -> None:
        """Make ready for the greedy training of a machine of `stack`: the perceptron follows what is trained."""
        self.begun.fill_(False)
        self.machine.begin_layer(layer)

    # The perceptron.

    @torch.no_grad()
    def follow_machine(self) -> None:
        """Make the weights of the perceptron those of the machine."""
        weights, biases = list(self.machine.weights), [units.bias for units in self.machine.layers]
        for layer, weight, bias in zip(self.layers, weights, biases[1:], strict=True):
            affine = _affine(layer)
            affine.weight.copy_(weight.t())
            affine.bias.copy_(bias)  # type: ignore[arg-type]
        for layer, weight in zip(self.feedback, weights[1:], strict=True):
            _affine(layer).weight.copy_(weight)

    def hidden_layers(self, inputs: Float[Tensor, "batch *shape"]) -> list[Float[Tensor, "batch _"]]:
        """Values of the hidden layers from the lowest up."""
        if not self.begun:
            self.follow_machine()
            self.begun.fill_(self.training and torch.is_grad_enabled())
        visible = self.machine.visible(inputs)
        with torch.no_grad():
            means = self.machine.mean_field(visible).state[2:]
        from_above = [layer(self.input_dropout(mean)) for layer, mean in zip(self.feedback, means, strict=True)]
        values, hidden = self.input_dropout(visible), []
        for number, layer in enumerate(self.layers):
            received = layer(values)
            if number < len(from_above):
                received = received + from_above[number]
            values = self.dropout(received.sigmoid())
            hidden.append(values)
        return hidden

    def features(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch hidden"]:
        """Values of the last hidden layer."""
        return self.hidden_layers(inputs)[-1]

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch outputs"]:
        """Logits."""
        return self.output(self.features(inputs))


def _affine(layer: nn.Module) -> nn.Linear:
    """The affine map in a layer, which an alteration may have wrapped."""
    return next(module for module in layer.modules() if isinstance(module, nn.Linear))


def pretraining(recipe: Any) -> tuple[dict[str, Any], ...]:
    """Centred training of the machine, all layers jointly and without labels, as long as the fine-tuning.

    Args:
        recipe: A complete recipe of a deep Boltzmann classifier.

    Raises:
        InvalidOption: `hidden` is not two or more sizes of layers.

    Source: Montavon and Müller 2012 (see `deep_boltzmann.pretraining`).
    """
    layer_sizes("deep Boltzmann classifier", recipe.model_options.get("hidden", _HIDDEN), least=2)
    options = {"persistent": True, "ais_chains": 0}
    return (descent("contrastive-divergence", options, epochs=recipe.epochs, learning_rate=0.3),)

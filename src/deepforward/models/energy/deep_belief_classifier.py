"""Deep belief networks unrolled into perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidOption
from deepforward.layers.shapes import expect_inputs
from deepforward.models.energy.greedy import greedy_stages
from deepforward.models.energy.rbm import RBM
from deepforward.models.energy.stack import layer_sizes, machines

_HIDDEN = (500, 500, 2000)


class DeepBeliefClassifier(nn.Module):
    """A perceptron of sigmoids whose hidden layers are trained first, greedily and without labels, as a deep belief network.

    Layer k gives sigmoid(c + x W) with W and c of machine k of `stack`; an affine layer maps the last one to logits.

    Args:
        input_shape: Shape of one example, values in [0, 1]; flattened.
        num_outputs: Number of outputs.
        hidden: Units of each hidden layer from the lowest up.
        dropout: Share of the hidden units of each layer left out in a training step of the classifier.
        input_dropout: The same of the inputs.

    Raises:
        InvalidOption: No hidden layer, or a number out of range.
        ShapeError: On calling it with inputs of another shape.

    Source:
        Hinton and Salakhutdinov 2006, Reducing the dimensionality of data with neural networks, Science 313; Hinton, Osindero,
        Teh 2006; dropout after pretraining: Srivastava et al. 2014, JMLR 15, section 6.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        hidden: Sequence[int] = _HIDDEN,
        dropout: float = 0.0,
        input_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        for name, share in (("dropout", dropout), ("input_dropout", input_dropout)):
            if not 0 <= share < 1:
                raise InvalidOption(f"deep belief classifier got {name}={share}; expected a share from 0 to below 1")
        self.input_shape = tuple(input_shape)
        self.stack = machines("deep belief classifier", input_shape, hidden)
        self.input_dropout, self.dropout = nn.Dropout(input_dropout), nn.Dropout(dropout)
        self.output = nn.Linear(hidden[-1], num_outputs)

    @property
    def bf16_products(self) -> bool:
        """Pretraining multiplies zeros and ones, and fine-tuning is noisier than bf16."""
        return True

    def features(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch hidden"]:
        """Values of the last hidden layer."""
        expect_inputs("stack.0", inputs, self.input_shape)
        values = self.input_dropout(inputs.flatten(1))
        for machine in cast(list[RBM], list(self.stack)):
            values = self.dropout(nn.functional.linear(values, machine.weight.t(), machine.hidden_units.bias).sigmoid())
        return values

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch outputs"]:
        """Logits."""
        return self.output(self.features(inputs))


def pretraining(recipe: Any) -> tuple[dict[str, Any], ...]:
    """Greedy training of one hidden layer after another, without labels, a third as long each as the fine-tuning.

    Args:
        recipe: A complete recipe of a deep belief classifier.

    Raises:
        InvalidOption: `hidden` is not one or more sizes of layers.
    """
    layers = len(layer_sizes("deep belief classifier", recipe.model_options.get("hidden", _HIDDEN), least=1))
    epochs = max(1, round(recipe.epochs / 3))
    return greedy_stages(layers, epochs=epochs, learning_rate=0.1, momentum=0.8, weight_decay=2e-4)

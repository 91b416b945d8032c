"""How well a linear classifier tells the classes from what each layer gives."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.errors import InvalidData
from deepforward.instruments.layer_outputs import outputs_of

#: Name under which the input is probed as if it were a layer.
INPUT = "input"

#: Most numbers of an example that a probe is given; maps are averaged over squares until they have no more.
FEATURES = 1024


@dataclass(frozen=True)
class ProbeResult:
    """A linear classifier on the activations of one layer.

    Attributes:
        layer: Name of the layer, or `input`.
        features: Numbers that it was given of each example.
        wrong: Which held-out examples it gets wrong.
    """

    layer: str
    features: int
    wrong: tuple[bool, ...]

    @property
    def error(self) -> float:
        """Share of held-out examples that it gets wrong, in [0, 1]."""
        return sum(self.wrong) / len(self.wrong)

    @property
    def accuracy(self) -> float:
        """Share that it gets right."""
        return 1 - self.error


def linear_probes(
    model: nn.Module,
    train: tuple[Float[Tensor, "examples *shape"], Int[Tensor, " examples"]],
    test: tuple[Float[Tensor, "held_out *shape"], Int[Tensor, " held_out"]],
    layers: Sequence[str],
    *,
    penalty: float = 1.0,
    features: int = FEATURES,
) -> Mapping[str, ProbeResult]:
    """Multinomial logistic regression on the activations of each layer, and on the input: the further, the simpler the classes.

    Activations are standardised by the training examples; maps of more numbers are averaged over squares first, so that every
    layer has at most as many parameters to fit. All layers see the same examples, so that their errors can be paired.

    Args:
        model: Any module that takes one tensor; run in evaluation mode and left as found.
        train: Scaled examples and their classes, to fit on.
        test: Others, to judge by.
        layers: Names of layers.
        penalty: Strength of the L2 penalty on the weights against the sum of the losses.
        features: Most numbers of an example.

    Returns:
        `input` and each layer -> result.

    Raises:
        InvalidData: One class only to fit on, or no example to judge by.
        UnknownName, InvalidModel: As `outputs_of`.

    Source:
        Alain and Bengio 2017, Understanding intermediate layers using linear classifier probes, ICLR workshop.
    """
    if len(train[1].unique()) < 2 or not len(test[1]):
        raise InvalidData("got fewer than two classes to fit a probe on, or no example to judge it by; give more examples")
    given = [_activations(model, inputs, layers, features) for inputs, _ in (train, test)]
    return {
        name: ProbeResult(name, given[0][name].shape[1], _wrong(given[0][name], train[1], given[1][name], test[1], penalty))
        for name in (INPUT, *layers)
    }


def _activations(model: nn.Module, inputs: Tensor, layers: Sequence[str], most: int) -> dict[str, np.ndarray]:
    parts: dict[str, list[Tensor]] = {name: [] for name in (INPUT, *layers)}
    for part, seen in outputs_of(model, inputs, layers):
        for name, output in {INPUT: inputs[part], **seen}.items():
            parts[name].append(pooled(output.float(), most).cpu())
    return {name: np.concatenate([part.numpy() for part in found]).astype(np.float64) for name, found in parts.items()}


def pooled(maps: Float[Tensor, "batch *shape"], most: int) -> Float[Tensor, "batch features"]:
    """Activations as rows, maps averaged over as few squares as leave no more than `most` numbers; others are as they are."""
    if maps.dim() == 4 and maps[0].numel() > most:
        side = max(1, math.isqrt(most // maps.shape[1]))
        maps = F.adaptive_avg_pool2d(maps, (min(side, maps.shape[2]), min(side, maps.shape[3])))
    return maps.flatten(1)


def _wrong(train: np.ndarray, targets: Tensor, test: np.ndarray, classes: Tensor, penalty: float) -> tuple[bool, ...]:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  (slow to import)

    mean, spread = train.mean(0), train.std(0)
    spread[spread < 1e-6 * max(float(spread.max()), 1e-30)] = np.inf  # what does not vary tells nothing
    probe = LogisticRegression(C=1 / penalty, max_iter=100, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged to the last digit
        probe.fit((train - mean) / spread, targets.cpu().numpy())
    return tuple((probe.predict((test - mean) / spread) != classes.cpu().numpy()).tolist())

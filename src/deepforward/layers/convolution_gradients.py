"""The gradients of a small convolutional network, every formula written out: to be read, and held against autograd.

delta is always the derivative of the loss by what a layer gives. For layers as torch has them, which correlate, the lecture's
rules are: dW is the valid correlation of the input with delta, and dX the full convolution of delta with W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from deepforward.layers.activations import activation
from deepforward.layers.convolution import convolve, correlate
from deepforward.layers.derivatives import DERIVATIVES

Images = Float[Tensor, "example channel height width"]
Maps = Float[Tensor, "example map map_height map_width"]
Kernels = Float[Tensor, "map channel kernel_height kernel_width"]


class Gradients(NamedTuple):
    """Derivatives of the loss by what a layer is given, its weight and its bias."""

    inputs: Tensor
    weight: Tensor
    bias: Tensor


def convolution(inputs: Images, weight: Kernels, bias: Float[Tensor, " map"]) -> Maps:
    """Map o = bias_o + sum_c correlation of channel c with W_oc, where the kernel lies within the image."""
    maps = [
        sum(correlate(inputs[:, c], kernel, size="valid", method="direct") for c, kernel in enumerate(kernels)) + b
        for kernels, b in zip(weight, bias, strict=True)
    ]
    return torch.stack(maps, dim=1)


def convolution_gradients(inputs: Images, weight: Kernels, delta: Maps) -> Gradients:
    """What delta makes of the inputs and parameters of `convolution`.

    dX_c = sum_o delta_o * W_oc (full convolution); dW_oc(k, l) = sum_ij X_c(i + k, j + l) delta_o(i, j), the valid correlation
    of the input with delta; db_o = sum_ij delta_o(i, j); the latter two summed over examples.

    Source:
        Zhang 2016, Derivation of backpropagation in convolutional neural network (CNN).
    """
    d_inputs, d_weight = torch.zeros_like(inputs), torch.zeros_like(weight)
    for o, kernels in enumerate(weight):
        for c, kernel in enumerate(kernels):
            d_inputs[:, c] += convolve(delta[:, o], kernel, size="full", method="direct")
        for channels, d in zip(inputs, delta[:, o], strict=True):
            d_weight[o] += correlate(channels, d, size="valid", method="direct")
    return Gradients(d_inputs, d_weight, delta.sum((0, 2, 3)))


def pooling(
    inputs: Images, kind: Literal["average", "max"], size: int
) -> tuple[Maps, Float[Tensor, "example map map_height map_width places"]]:
    """Windows of size x size, side by side, each replaced by its average or its largest value; a remainder is left out.

    Returns:
        The maps, and the share in each value of the places of its window: 1/size^2, or 1 for the (first) largest and 0 else.
    """
    windows = inputs.unfold(2, size, size).unfold(3, size, size).flatten(4)
    if kind == "average":
        return windows.mean(-1), torch.full_like(windows, 1 / size**2)
    largest, where = windows.max(-1)
    return largest, F.one_hot(where, size**2).to(inputs.dtype)


def pooling_gradient(delta: Maps, shares: Float[Tensor, "example map map_height map_width places"], inputs: Images) -> Images:
    """Delta of each window spread over its places by their shares."""
    size = round(shares.shape[-1] ** 0.5)
    spread = (delta[..., None] * shares).unflatten(-1, (size, size)).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    missing = (inputs.shape[3] - spread.shape[3], inputs.shape[2] - spread.shape[2])
    return F.pad(spread, (0, missing[0], 0, missing[1]))


def affine_gradients(
    inputs: Float[Tensor, "example feature"], weight: Float[Tensor, "output feature"], delta: Float[Tensor, "example output"]
) -> Gradients:
    """Of y = W x + b: dX = delta W, dW = sum over examples of delta x', db = sum of delta."""
    return Gradients(delta @ weight, delta.T @ inputs, delta.sum(0))


def cross_entropy(
    outputs: Float[Tensor, "example output"], labels: Int64[Tensor, " example"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "example output"]]:
    """Mean of -log p of the label under the softmax p of the outputs, in nats; delta = (p - one-hot label) / examples."""
    exponentials = torch.exp(outputs - outputs.max(1, keepdim=True).values)  # lest exp overflow; p is the same
    p = exponentials / exponentials.sum(1, keepdim=True)
    loss = -p.gather(1, labels[:, None]).log().mean()
    return loss, (p - F.one_hot(labels, p.shape[1])) / len(p)


def squared_error(
    outputs: Float[Tensor, "example output"], labels: Int64[Tensor, " example"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "example output"]]:
    """Zhang's loss, the mean of |y - t|^2 / 2 with y = sigmoid(outputs), t the one-hot label; delta = (y - t) y (1 - y) / n."""
    y = torch.sigmoid(outputs)
    error = y - F.one_hot(labels, y.shape[1])
    return error.square().sum(1).mean() / 2, error * DERIVATIVES["sigmoid"](outputs) / len(y)


@dataclass(frozen=True)
class SmallNetwork:
    """Convolution, activation and pooling, as often as there are kernels; then an affine layer and the loss.

    Attributes:
        kernels: (map, channel, height, width) of each stage.
        biases: (map,) of each stage.
        weight: (output, feature) of the affine layer.
        bias: (output,) of the affine layer.
        activation: Name of an activation that has no parameters, such as `sigmoid` or `relu`.
        pooling: Average or largest value.
        size: Side of the windows that are pooled.
        loss: Softmax with cross-entropy, or sigmoid with squared error.
    """

    kernels: Sequence[Tensor]
    biases: Sequence[Tensor]
    weight: Tensor
    bias: Tensor
    activation: str = "sigmoid"
    pooling: Literal["average", "max"] = "average"
    size: int = 2
    loss: Literal["cross-entropy", "squared-error"] = "squared-error"

    def gradients(self, images: Images, labels: Int64[Tensor, " example"]) -> tuple[Tensor, list[Gradients]]:
        """Loss, and the gradients of each layer with weights, from the first to the affine one."""
        phi, slope = activation(self.activation), DERIVATIVES[self.activation]
        kept, x = [], images
        for weight, bias in zip(self.kernels, self.biases, strict=True):
            sums = convolution(x, weight, bias)
            pooled, shares = pooling(phi(sums), self.pooling, self.size)
            kept.append((x, weight, sums, shares))
            x = pooled
        features = x.flatten(1)
        outputs = features @ self.weight.T + self.bias
        loss, delta = {"cross-entropy": cross_entropy, "squared-error": squared_error}[self.loss](outputs, labels)

        found = [affine_gradients(features, self.weight, delta)]
        for inputs, weight, sums, shares in reversed(kept):
            delta = pooling_gradient(found[0].inputs.view(shares.shape[:-1]), shares, sums) * slope(sums)
            found.insert(0, convolution_gradients(inputs, weight, delta))
        return loss, found

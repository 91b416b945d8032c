"""Deconvolutional networks: images made of filters, whose maps are made of filters in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidOption
from deepforward.layers.filter_learning import unit_norm
from deepforward.layers.shapes import expect_image, expect_inputs
from deepforward.layers.sparse_coding import SparseCode, sparse_code
from deepforward.layers.switched_pooling import pool, pooled_shape, unpool
from deepforward.layers.synthesis import synthesise

_MAPS, _KERNELS = (16, 32), (7, 5)


class Inferred(NamedTuple):
    """What a layer makes of its input: the sparse code, its pooled maps, and where each of these was."""

    code: SparseCode
    pooled: Tensor
    switches: Tensor


class DeconvolutionalLayer(nn.Module):
    """One layer: maps z that minimise lambda / 2 |sum_k z_k * f_k - y|^2 + |z|_1, then max pooling with switches.

    Args:
        input_shape: Channels, height and width of y.
        maps: Number of filters.
        kernel: Side of a filter.
        weight: lambda where patches of the input, as large as a filter, have norm 1 (root mean square); `measure` fits it.
        pool: Side of the blocks that are pooled.
        pool_maps: Neighbouring maps pooled together.
        steps: Steps of FISTA from zero.
    """

    patch_norm: Tensor

    def __init__(
        self, input_shape: tuple[int, int, int], maps: int, kernel: int, *, weight: float, pool: int, pool_maps: int, steps: int
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.map_shape = maps, height + kernel - 1, width + kernel - 1
        self.output_shape = pooled_shape(self.map_shape, pool, pool_maps)
        self.weight, self.pool, self.pool_maps, self.steps = weight, pool, pool_maps, steps
        self.register_buffer("patch_norm", torch.ones(()))
        self.filters = nn.Parameter(unit_norm(torch.randn(maps, channels, kernel, kernel)))

    def unit_filters(self) -> Float[Tensor, "map channel side side"]:
        """The filters as they are used, each of unit norm."""
        return unit_norm(self.filters)

    @torch.no_grad()
    def measure(self, inputs: Float[Tensor, "batch channel height width"]) -> None:
        """Take the norm of patches, in units of which lambda counts, from examples of the input."""
        self.patch_norm.copy_((inputs.square().mean() * self.filters[0].numel()).sqrt().clamp(min=1e-6))

    def infer(self, inputs: Float[Tensor, "batch channel height width"]) -> Inferred:
        """Maps of the inputs after the layer's number of steps, which does not depend on what else is in the batch."""
        with torch.autocast(inputs.device.type, enabled=False):  # rounded gradients would end in steps that go up
            weight = self.weight / float(self.patch_norm)
            code = sparse_code(inputs.float(), self.unit_filters(), weight, steps=self.steps, tolerance=0)
        return Inferred(code, *pool(code.maps, self.pool, self.pool_maps))

    def forward(self, inputs: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch group rows columns"]:
        """The pooled maps: what the layer above explains."""
        return self.infer(inputs).pooled

    def down(self, maps: Float[Tensor, "batch map rows columns"]) -> Float[Tensor, "batch channel height width"]:
        """The input that maps stand for."""
        return synthesise(maps, self.unit_filters())

    def unpooled(self, pooled: Tensor, inferred: Inferred) -> Float[Tensor, "batch map rows columns"]:
        """Pooled values back at the places where an example had them."""
        return unpool(pooled, inferred.switches, self.map_shape, self.pool, self.pool_maps)


class DeconvolutionalNetwork(nn.Module):
    """A stack of convolutional sparse coders: each explains the pooled maps of the one below by few filters.

    There is no encoder: maps are inferred by minimising the objective of their layer, from the lowest up. From any layer an
    example is reconstructed by synthesis, and unpooling at the switches, down to the pixels. Layers are trained from the lowest
    up (objective `sparse-coding`).

    Args:
        input_shape: (channels, height, width).
        maps: Filters of each layer from the lowest up.
        kernels: Side of the filters of each.
        weight: lambda of the objective, in units of one over the norm of a patch of the layer's input (root mean square, at the
            size of a filter): the larger, the closer the fit and the fuller the maps.
        pool: Side of the blocks of a map of which the largest magnitude is passed on; 1 passes all.
        pool_maps: Neighbouring maps that are pooled together (2 in Zeiler 2011).
        steps: Steps of FISTA from zero maps.

    Raises:
        ShapeError: The examples are no images, or inputs of another shape come later.
        InvalidOption: Not one kernel a layer, or a number out of range.

    Source:
        Zeiler, Krishnan, Taylor, Fergus 2010, Deconvolutional networks, CVPR; pooling and switches: Zeiler, Taylor, Fergus
        2011, Adaptive deconvolutional networks for mid and high level feature learning, ICCV.
    """

    #: Inference is a descent that rounding would stop early.
    bf16_products = False

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        maps: Sequence[int] = _MAPS,
        kernels: Sequence[int] = _KERNELS,
        weight: float = 10.0,
        pool: int = 2,
        pool_maps: int = 1,
        steps: int = 20,
    ) -> None:
        super().__init__()
        sizes = layer_sizes(maps, kernels)
        if min(pool, pool_maps, steps) < 1 or not weight > 0:
            raise InvalidOption(
                f"deconvolutional-network got pool={pool}, pool_maps={pool_maps}, steps={steps}, weight={weight}; expected "
                "whole numbers of at least 1, and a weight above 0"
            )
        self.input_shape = shape = expect_image("deconvolutional-network", input_shape, smallest=1)
        self.stack = nn.ModuleList()
        for count, kernel in sizes:
            layer = DeconvolutionalLayer(shape, count, kernel, weight=weight, pool=pool, pool_maps=pool_maps, steps=steps)
            self.stack.append(layer)
            shape = layer.output_shape

    @property
    def layers(self) -> list[DeconvolutionalLayer]:
        """The layers from the lowest up."""
        return cast(list[DeconvolutionalLayer], list(self.stack))

    def infer(self, inputs: Float[Tensor, "batch *shape"], depth: int | None = None) -> list[Inferred]:
        """What each of the lowest `depth` layers makes of the examples; of all layers by default."""
        expect_inputs("stack.0", inputs, self.input_shape)
        found = []
        for layer in self.layers[:depth]:
            found.append(layer.infer(inputs))
            inputs = found[-1].pooled
        return found

    def reconstruct(self, inputs: Float[Tensor, "batch *shape"], depth: int | None = None) -> Float[Tensor, "batch *shape"]:
        """The examples as the maps of layer `depth` (from 1; default: the highest) tell them, by the switches on the way up."""
        found = self.infer(inputs, depth)
        values = found[-1].code.fit
        for layer, inferred in reversed(list(zip(self.layers, found[:-1], strict=False))):
            values = layer.down(layer.unpooled(values, inferred))
        return values

    def features(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch features"]:
        """Pooled maps of the highest layer, flattened."""
        return self.infer(inputs)[-1].pooled.flatten(1)

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch features"]:
        """The features; gradients pass through all steps of the inference."""
        return self.features(inputs)

    @torch.no_grad()
    def atoms(self, depth: int) -> Float[Tensor, "map channel side side"]:
        """What one unit of each map of layer `depth` (from 1) adds to an image, pooled values lying in the middle of blocks."""
        *below, layer = self.layers[:depth]
        pictures = layer.unit_filters()
        for lower in reversed(below):
            groups, side = pictures.shape[1], lower.pool
            middle = torch.zeros(lower.pool_maps, side, side).to(pictures)
            middle[0, side // 2, side // 2] = 1
            spread = torch.einsum("kgij,auv->kgaiujv", pictures, middle)
            maps = spread.reshape(len(pictures), groups * lower.pool_maps, *(side * extent for extent in pictures.shape[2:]))
            pictures = nn.functional.conv_transpose2d(maps[:, : len(lower.filters)], lower.unit_filters())
        return pictures


def layer_sizes(maps: Any, kernels: Any) -> list[tuple[int, int]]:
    """Number and side of the filters of each layer, checked.

    Raises:
        InvalidOption: Not whole numbers of at least 1, or not one kernel a layer.
    """
    for name, sizes in (("maps", maps), ("kernels", kernels)):
        given = list(sizes) if isinstance(sizes, Sequence) and not isinstance(sizes, str) else []
        if not given or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in given):
            raise InvalidOption(
                f"deconvolutional-network got {name}={sizes!r}; expected a whole number of at least 1 for each layer, "
                f"for example {list(_MAPS if name == 'maps' else _KERNELS)}"
            )
    if len(maps) != len(kernels):
        raise InvalidOption(f"deconvolutional-network got {len(maps)} maps and {len(kernels)} kernels; expected one a layer")
    return list(zip(maps, kernels, strict=True))


def pretraining(recipe: Any) -> tuple[dict[str, Any], ...]:
    """Training of every layer but the highest, which the run itself trains, from the lowest up.

    Args:
        recipe: A complete recipe of a deconvolutional network.

    Raises:
        InvalidOption: `maps` and `kernels` are not one whole number a layer.
    """
    options = recipe.model_options
    layers = len(layer_sizes(options.get("maps", _MAPS), options.get("kernels", _KERNELS)))
    if recipe.objective != "sparse-coding" or "layer" in recipe.objective_options:
        return ()
    return tuple({"objective_options": {**recipe.objective_options, "layer": layer}} for layer in range(layers - 1))

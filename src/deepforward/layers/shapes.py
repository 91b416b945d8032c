"""The one check that every model makes of what it is fed."""

from __future__ import annotations

from torch import Tensor

from deepforward.errors import ShapeError


def expect_inputs(layer: str, inputs: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse inputs that are not (batch, *shape).

    Args:
        layer: Name of the layer that is about to receive `inputs`, for the message.
        inputs: The batch.
        shape: Shape of one example, without the batch axis.

    Raises:
        ShapeError: The shape differs.
    """
    if inputs.shape[1:] != shape:
        got, expected = tuple(inputs.shape), ", ".join(["batch", *map(str, shape)])
        raise ShapeError(
            f"layer '{layer}' got inputs of shape {got}, expected ({expected}); build the model with the data's shape"
        )


def expect_image(model: str, shape: tuple[int, ...], smallest: int) -> tuple[int, int, int]:
    """Refuse to build an image model for examples that are not images of a sufficient size.

    Args:
        model: Name of the model, for the message.
        shape: Shape of one example.
        smallest: Least height and width, in pixels.

    Returns:
        Channels, height and width.

    Raises:
        ShapeError: Not three axes, or too small.
    """
    if len(shape) != 3 or min(shape[1:]) < smallest:
        raise ShapeError(
            f"model '{model}' got examples of shape {shape}, expected (channels, height, width) of at least "
            f"{smallest}x{smallest} pixels; use images, or a perceptron for other data"
        )
    channels, height, width = shape
    return channels, height, width

"""Skip connections."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Skip(nn.Module):
    """A residual connection: y = shortcut(x) + scale * branch(x).

    Args:
        branch: The residual function; gives a tensor of the shape of `shortcut(x)`.
        scale: Factor of the branch. 1 is He et al.; 1/sqrt(number of skips) keeps the variance of a deep stack without
            normalisation within a factor e.
        shortcut: What carries x past the branch; the identity by default.

    Source:
        He, Zhang, Ren, Sun 2016, Deep residual learning for image recognition, eq. 1.
    """

    def __init__(self, branch: nn.Module, scale: float = 1.0, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.scale = scale

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *result"]:
        """The carried input plus the scaled branch."""
        carried = inputs if self.shortcut is None else self.shortcut(inputs)
        branch = self.branch(inputs)
        return carried + branch if self.scale == 1 else carried.add(branch, alpha=self.scale)

    def extra_repr(self) -> str:
        """The factor of the branch."""
        return f"scale={self.scale:.4g}"


class PadShortcut(nn.Module):
    """Option A of He et al.: every `stride`-th pixel, and zeros in the channels that are new. Has no parameters.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the result, not fewer; the new ones are shared out before and after the old.
        stride: Step between the pixels that are kept.

    Source:
        He, Zhang, Ren, Sun 2016, section 3.3, option (A).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        new = out_channels - in_channels
        self.before, self.after, self.stride = new // 2, new - new // 2, stride

    def forward(
        self, inputs: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch out_channel out_height out_width"]:
        """Subsample and pad."""
        kept = F.avg_pool2d(inputs, 1, self.stride)  # a slice, but one whose gradient keeps the memory format
        return F.pad(kept, (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        """Channels added and step."""
        return f"before={self.before}, after={self.after}, stride={self.stride}"

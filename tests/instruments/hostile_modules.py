"""Modules that break careless instruments, each with a batch for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class SharedReLU(nn.Module):
    """One ReLU called at two widths."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 9), nn.Linear(9, 5), nn.Linear(5, 3)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.relu(self.second(self.relu(self.first(x)))))


class SharedWeights(nn.Module):
    """One affine layer called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.unused = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.tanh(self.layer(x))
        return x


class Residual(nn.Module):
    """An in-place ReLU after a sum, and a tensor with two consumers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.relu(x + self.branch(x)))


class Images(nn.Module):
    """Convolution, batch normalisation, in-place ReLU, pooling, flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 5, 3),
            nn.ReLU6(),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(20, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Nested(nn.Module):
    """Dictionary and tuple outputs, an integer output, a parameter beside children, and a child used functionally."""

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.full((6,), 1.5))

        def forward(self, x: Tensor, *, offset: float = 0.0) -> dict[str, tuple[Tensor, Tensor]]:
            return {"counts": (torch.arange(3), x * self.scale + offset)}

    class Largest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.argmax(1)

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.largest, self.functional = self.Pair(), self.Largest(), nn.Linear(6, 3)
        self.shift = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        _, scaled = self.pair(x + self.shift, offset=0.5)["counts"]
        out = nn.functional.linear(scaled, self.functional.weight, self.functional.bias)
        return {"largest": self.largest(out), "out": out}


class Frozen(nn.Module):
    """A frozen layer, and a backbone called without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.frozen, self.head = nn.Sequential(nn.Linear(6, 6), nn.Tanh()), nn.Linear(6, 6), nn.Linear(6, 3)
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.backbone(x)
        return self.head(torch.tanh(self.frozen(x)))


class Checkpointed(nn.Module):
    """Activation checkpointing: the layers run a second time inside backward."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.inside, self.head = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 8)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.inside, x.requires_grad_(), use_reentrant=self.reentrant))


class Recurrent(nn.Module):
    """A leaf whose output is a nested tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x.unsqueeze(1).expand(-1, 3, -1))
        return self.head(states[:, -1])


class InPlaceSum(nn.Module):
    """A sum into a layer's own output, a part of one that is overwritten, and one scaled where it lies."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x += self.branch(x.tanh())
        x[:, :3].mul_(2.0)
        x[:, 5] = 0.0
        return self.head(x).mul_(0.5)


class Tied(nn.Module):
    """Two layers with one weight, one of them with a frozen bias, and a parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.unused = nn.Linear(6, 6), nn.Linear(6, 6), nn.Parameter(torch.ones(2))
        self.decoder.weight = self.encoder.weight
        self.decoder.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(torch.tanh(self.encoder(x)))


class Spectral(nn.Module):
    """Complex parameters, a complex output between layers, and complex, integer, Boolean and expanded buffers."""

    class Filter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, dtype=torch.complex128))
            self.register_buffer("shift", torch.full((4,), 0.5j))
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
            self.register_buffer("mask", torch.tensor([True, True, True, False]))
            self.register_buffer("position", torch.arange(4.0).expand(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return (torch.fft.rfft(x) * self.weight + self.shift) * self.mask * torch.exp(-self.position[0])

    def __init__(self) -> None:
        super().__init__()
        self.filter, self.head = self.Filter(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.fft.irfft(self.filter(x), n=6).to(x.dtype))


class Token(nn.Module):
    """A module that hands out its parameter, another that hands on its input, and a data class as output."""

    @dataclass
    class Output:
        count: int
        hidden: Tensor

    class Learnt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.linspace(-1, 1, 6))

        def forward(self) -> Tensor:
            return self.weight

    class Same(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    class Wrapped(nn.Linear):
        def forward(self, x: Tensor) -> Token.Output:
            return Token.Output(len(x), super().forward(x))

    def __init__(self) -> None:
        super().__init__()
        self.token, self.same, self.wrapped = self.Learnt(), self.Same(), self.Wrapped(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.wrapped(self.same(x.requires_grad_()) + self.token()).hidden


class Attention(nn.Module):
    """torch's own attention, which uses its output layer without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(1).cumsum(0).expand(-1, 3, -1)
        mixed, _ = self.attention(x, x, x)
        return self.head(mixed[:, 0])


def normed() -> nn.Module:
    """Weight and spectral norm, which compute a layer's weight from parameters of their own."""
    return nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)),
        nn.Tanh(),
        nn.utils.parametrizations.spectral_norm(nn.Linear(8, 3)),
    )


class DropPath(nn.Module):
    """Stochastic depth: leaves the branch of whole examples out."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        kept = x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(1 - self.rate)
        return x * kept.div_(1 - self.rate)


class LayerScale(nn.Module):
    """A small factor for each channel of a branch."""

    def __init__(self, width: int, size: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), size))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class TransformerBlock(nn.Module):
    """The block of a vision transformer: one layer for queries, keys and values, fused attention, layer scale, drop path."""

    def __init__(self, width: int, heads: int, scale: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ls1, self.drop_path1 = LayerScale(width, scale), DropPath(0.1)
        self.norm2, self.fc1, self.act = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU()
        self.fc2, self.ls2, self.drop_path2 = nn.Linear(2 * width, width), LayerScale(width, scale), DropPath(0.1)

    def attention(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self.ls1(self.attention(self.norm1(x))))
        return x + self.drop_path2(self.ls2(self.fc2(self.act(self.fc1(self.norm2(x))))))


class VisionTransformer(nn.Module):
    """A vision transformer as timm builds it, with its initialisation."""

    def __init__(self, width: int = 8, depth: int = 2, heads: int = 2, scale: float = 1e-4, outputs: int = 10) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(1, width, 2, 2)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 1e-6)
        self.pos_embed = nn.Parameter(torch.randn(1, 17, width) * 0.02)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, scale) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class BasicBlock(nn.Module):
    """The block of a residual network, with in-place ReLU and a sum in place; its last scale starts at zero, as timm's does."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.act2, self.drop_path = nn.ReLU(inplace=True), DropPath(0.1)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.drop_path(self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x))))))
        x += shortcut
        return self.act2(x)


class ResNet(nn.Module):
    """A residual network as timm builds it."""

    def __init__(self, widths: tuple[int, ...] = (4, 6), blocks: int = 2, outputs: int = 10) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0])
        self.act1, self.global_pool = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)
        layers, inputs = [], widths[0]
        for i, width in enumerate(widths):
            layers += [BasicBlock(width if j else inputs, width, 2 if i and not j else 1) for j in range(blocks)]
            inputs = width
        self.layers, self.fc = nn.Sequential(*layers), nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.global_pool(self.layers(self.act1(self.bn1(self.conv1(x))))).flatten(1))


class Buffers(nn.Module):
    """Complex, integer and boolean buffers, one of which counts calls."""

    turn: Tensor
    calls: Tensor
    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.register_buffer("turn", torch.polar(torch.ones(4), torch.arange(4.0)))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mask", torch.arange(8) != 3)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        turned = torch.view_as_real(torch.view_as_complex(self.first(x).unflatten(1, (4, 2))) * self.turn).flatten(1)
        return self.head(torch.tanh(turned) * self.mask)


@contextmanager
def mixed_precision() -> Iterator[None]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield


@contextmanager
def nothing() -> Iterator[None]:
    yield


@dataclass(frozen=True)
class Patient:
    build: Callable[[], nn.Module]
    inputs: tuple[int, ...] = (12, 6)
    around: Callable[[], object] = nothing
    channels_last: bool = False

    def model(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(7)
            model = self.build()
        return model.to(memory_format=torch.channels_last) if self.channels_last else model

    def batch(self, step: int = 0) -> Tensor:
        inputs = torch.randn(self.inputs, generator=torch.Generator().manual_seed(100 + step))
        return inputs.to(memory_format=torch.channels_last) if self.channels_last else inputs

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        with self.around():
            out = model(batch.clone())
        out = out["out"] if isinstance(out, dict) else out
        return out.float().square().mean() if out.dtype == torch.bfloat16 else out.square().mean()


PATIENTS = {
    "sequential": Patient(lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))),
    "one layer": Patient(lambda: nn.Linear(6, 3)),
    "shared ReLU": Patient(SharedReLU),
    "shared weights, one layer unused": Patient(SharedWeights),
    "in-place": Patient(lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 8), nn.SELU(inplace=True))),
    "residual": Patient(Residual),
    "images": Patient(Images, (20, 3, 8, 8)),
    "images, channels last": Patient(Images, (20, 3, 8, 8), channels_last=True),
    "dropout": Patient(lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Hardtanh(), nn.Linear(8, 3))),
    "nested outputs": Patient(Nested),
    "frozen and no_grad": Patient(Frozen),
    "bfloat16": Patient(lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), around=mixed_precision),
    "checkpointed": Patient(lambda: Checkpointed(reentrant=False)),
    "checkpointed, reentrant": Patient(lambda: Checkpointed(reentrant=True)),
    "recurrent": Patient(Recurrent),
    "sums in place": Patient(InPlaceSum),
    "tied, half frozen, unused": Patient(Tied),
    "complex": Patient(Spectral),
    "parameter as output": Patient(Token),
    "attention": Patient(Attention),
    "weight and spectral norm": Patient(normed),
    "vision transformer": Patient(VisionTransformer, (12, 1, 8, 8)),
    "residual network": Patient(ResNet, (12, 1, 8, 8)),
    "complex and integer buffers": Patient(Buffers),
}

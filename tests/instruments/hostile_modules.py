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
    "complex and integer buffers": Patient(Buffers),
}

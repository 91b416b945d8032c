"""What does looking inside cost? Promised: at most 2 % of the step time on a small perceptron and on a ResNet-20.

Process CPU time on one thread. Plain steps, steps under the Probe with its default budget, and steps with the hooks that
people paste into their loops (`.item()` in forward and full backward hooks of every leaf, and for every parameter) take turns
in blocks; an overhead is a block against the plain block of its round. A second plain variant shows the machine's noise.
Usage: python benchmarks/probe_overhead.py [--quick] [--json FILE]
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median, quantiles

import torch
from comparison import Row, arguments, compare, in_turn, publish
from torch import Tensor, nn

from deepforward import Probe, catalogue

BATCH = 128
PROMISED = 0.02
#: Steps before measuring: the dense start, whose cost is bounded in absolute time, is over.
WARM = 80
Step = Callable[[], None]


class Training:
    """A model with an unchanged plain PyTorch loop."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        rng = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(BATCH, *shape, generator=rng)
        self.targets = torch.randint(10, (BATCH,), generator=rng)

    def step(self) -> None:
        """Forward, backward, update."""
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(self.inputs), self.targets).backward()
        self.optimizer.step()


class PastedHooks:
    """What people paste into their loops to see activations and gradients."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.seen: dict[str, float] = {}
        for name, module in training.model.named_modules():
            if hasattr(module, "inplace"):
                module.inplace = False  # a full backward hook fails on what is changed in place
            if next(module.children(), None) is None:
                module.register_forward_hook(self._forward(name))
                module.register_full_backward_hook(self._backward(name))

    def _forward(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            self.seen[f"{name} mean"] = output.mean().item()
            self.seen[f"{name} std"] = output.std().item()

        return hook

    def _backward(self, name: str) -> Callable[[nn.Module, object, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, gradients_in: object, gradients_out: tuple[Tensor, ...]) -> None:
            self.seen[f"{name} gradient"] = gradients_out[0].norm().item()

        return hook

    def step(self) -> None:
        """A plain step, and the norm of every parameter's gradient."""
        self.training.step()
        for name, parameter in self.training.model.named_parameters():
            if parameter.grad is not None:
                self.seen[name] = parameter.grad.norm().item()


def block(step: Step, steps: int) -> float:
    """CPU seconds per step over a block."""
    start = time.process_time()
    for _ in range(steps):
        step()
    return (time.process_time() - start) / steps


def overheads(name: str, build: Callable[[], nn.Module], shape: tuple[int, ...], steps: int, rounds: int) -> list[Row]:
    """Rows for one network: steps with the probe and with pasted hooks, in blocks of `steps`."""
    plain, again, probed = (Training(build(), shape) for _ in range(3))
    pasted = PastedHooks(Training(build(), shape))
    for step in (plain.step, again.step, pasted.step):
        block(step, 3)
    with Probe(probed.model, optimizer=probed.optimizer, budget=PROMISED) as probe:
        block(probed.step, WARM)
        taken = in_turn(
            {
                "plain": lambda: block(plain.step, steps),
                "probe": lambda: block(probed.step, steps),
                "again": lambda: block(again.step, steps),
                "pasted": lambda: block(pasted.step, max(3, steps // 4)),
            },
            rounds,
        )
    readings = probe.readings()
    print(f"{name}: {1e3 * median(taken['plain']):.2f} ms a step, {len(readings.layers)} layer calls")
    print(f"  {len(readings.steps)} of {probe.step} steps sampled; added to a step: {', '.join(added(taken))}")
    return [
        compare(f"{name}: probe", taken["probe"], taken["plain"], "plain step", "s/step"),
        compare(f"{name}: probe", taken["probe"], taken["pasted"], "pasted .item() hooks", "s/step"),
        compare(f"{name}: plain again (noise)", taken["again"], taken["plain"], "plain step", "s/step"),
    ]


def added(taken: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """What each variant adds to a plain step, in percent, with quartiles."""
    for variant in ("probe", "again", "pasted"):
        shares = [100 * (ours / plain - 1) for ours, plain in zip(taken[variant], taken["plain"], strict=True)]
        low, middle, high = quantiles(shares, n=4, method="inclusive")
        yield f"{variant} {middle:+.1f} % [{low:+.1f}, {high:+.1f}]"


def perceptron() -> nn.Module:
    """784 - 10 x 256 - 10 with ReLU."""
    sizes = [784, *[256] * 10]
    hidden = [layer for i, o in pairwise(sizes) for layer in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(256, 10))


def resnet20() -> nn.Module:
    """The catalogue's ResNet-20 for 3 x 32 x 32 images."""
    return catalogue.load("models", "resnet20")((3, 32, 32), 10)


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__.splitlines()[0])
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Full backward hook is firing")  # the pasted hooks' own
    torch.manual_seed(0)
    rounds = 7 if options.quick else 15
    rows = overheads("perceptron", perceptron, (784,), steps=200, rounds=rounds)
    rows += overheads("ResNet-20", resnet20, (3, 32, 32), steps=8 if options.quick else 24, rounds=rounds)
    publish("probe overhead", rows, options.json)


if __name__ == "__main__":
    main()

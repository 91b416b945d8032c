"""What do the instruments cost, beside those of others?

Promised: looking at flow, dead units and updates adds at most 2 % to a step, of a small perceptron (5 ms) and of a ResNet-20;
clipping with the norm of each layer kept is cheaper than torch's clip_grad_norm_; the isometry defect of a ResNet block
16384 -> 16384, whose Jacobian takes 1 GiB, comes in under 50 ms.

Process CPU time on one thread. Plain steps, steps under the Probe with its default instruments and budget, and steps under each
peer take turns in blocks; a ratio is taken within a round. A second plain variant shows the machine's noise. The peers:
`.item()` hooks as people paste them on every leaf and parameter; traintools' GradientHealthMonitor and PlasticityProbe at every
step; wandb.watch (gradients, offline) and TensorBoard histograms of parameters and gradients at every tenth; cockpit's smallest
configuration at every step. One that is missing is a row that says why.
Usage: python benchmarks/instruments.py [--quick] [--json FILE]
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median, quantiles

import torch
from comparison import Row, against_bound, arguments, compare, in_turn, publish, unavailable
from torch import Tensor, nn

from deepforward import Probe, catalogue
from deepforward.engine.step import clip_gradients
from deepforward.errors import first_line
from deepforward.instruments import gradient_norms

BATCH = 128
PROMISED = 0.02
#: Steps before measuring: the dense start, whose cost is bounded in absolute time, is over.
WARM = 80
#: Steps from one look of wandb.watch and of TensorBoard's histograms to the next.
EVERY = 10
Build = Callable[[], nn.Module]


class Training:
    """A model with an unchanged plain PyTorch loop."""

    #: Steps of a block; None for the default.
    block: int | None = None

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        self.count = 0
        rng = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(BATCH, *shape, generator=rng)
        self.targets = torch.randint(10, (BATCH,), generator=rng)

    def step(self) -> None:
        """Forward, backward, update."""
        self.optimizer.zero_grad()
        self.backward()
        self.look()
        self.optimizer.step()
        self.count += 1

    def backward(self) -> None:
        """Loss and gradients."""
        nn.functional.cross_entropy(self.model(self.inputs), self.targets).backward()

    def look(self) -> None:
        """What a peer does between backward and update."""


class PastedHooks(Training):
    """What people paste into their loops to see activations and gradients."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__(model, shape)
        self.seen: dict[str, float] = {}
        for name, module in model.named_modules():
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

    def look(self) -> None:
        """The norm of every parameter's gradient."""
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                self.seen[name] = parameter.grad.norm().item()


class GradientHealth(Training):
    """traintools' view of gradients and updates."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        from traintools import GradientHealthMonitor

        super().__init__(model, shape)
        self.monitor = GradientHealthMonitor()

    def look(self) -> None:
        """As in its documentation."""
        self.monitor.inspect(self.model, step=self.count, lr=0.01)


class Plasticity(Training):
    """traintools' hooks for dead units, without the measurement they collect for."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        from traintools import PlasticityProbe

        super().__init__(model, shape)
        self.probe = PlasticityProbe(model)


class WandbWatch(Training):
    """wandb.watch, offline."""

    block = EVERY

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        import wandb

        super().__init__(model, shape)
        self.folder = tempfile.TemporaryDirectory()
        self.run = wandb.init(
            mode="offline", dir=self.folder.name, settings=wandb.Settings(silent=True), reinit="finish_previous"
        )
        self.run.watch(model, log="gradients", log_freq=EVERY)

    def look(self) -> None:
        """What it collected goes out with a call of log."""
        self.run.log({"step": self.count})


class Histograms(Training):
    """TensorBoard histograms of parameters and gradients."""

    block = EVERY

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        super().__init__(model, shape)
        self.folder = tempfile.TemporaryDirectory()
        self.writer = SummaryWriter(self.folder.name)

    def look(self) -> None:
        """As in PyTorch's documentation."""
        if self.count % EVERY == 0:
            for name, parameter in self.model.named_parameters():
                self.writer.add_histogram(name, parameter, self.count)
                self.writer.add_histogram(f"{name} gradient", parameter.grad, self.count)


class Economy(Training):
    """cockpit's smallest configuration."""

    block = 1

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        import cockpit
        from backpack import extend
        from cockpit.utils.configuration import configuration

        super().__init__(extend(model, use_converter=not isinstance(model, nn.Sequential)), shape)
        self.mean, self.each = extend(nn.CrossEntropyLoss()), extend(nn.CrossEntropyLoss(reduction="none"))
        self.cockpit = cockpit.Cockpit(self.model.parameters(), quantities=configuration("economy"))

    def backward(self) -> None:
        """Loss and gradients, with the losses of each example."""
        outputs = self.model(self.inputs)
        loss, losses = self.mean(outputs, self.targets), self.each(outputs, self.targets)
        info = {"batch_size": BATCH, "individual_losses": losses, "loss": loss, "optimizer": self.optimizer}
        with self.cockpit(self.count, info=info):
            loss.backward(create_graph=self.cockpit.create_graph(self.count))


PEERS: Mapping[str, type[Training]] = {
    "pasted .item() hooks": PastedHooks,
    "traintools gradient health": GradientHealth,
    "traintools plasticity hooks": Plasticity,
    "wandb.watch": WandbWatch,
    "TensorBoard histograms": Histograms,
    "cockpit economy": Economy,
}


def block(training: Training, steps: int) -> float:
    """CPU seconds per step over a block."""
    steps = training.block or steps
    start = time.process_time()
    for _ in range(steps):
        training.step()
    return (time.process_time() - start) / steps


def available(build: Build, shape: tuple[int, ...]) -> tuple[dict[str, Training], dict[str, str]]:
    """Peers that run on this network, after a first block, and why the others do not."""
    ready, reasons = {}, {}
    for name, peer in PEERS.items():
        try:
            training = peer(build(), shape)
            block(training, 3)
            ready[name] = training
        except Exception as error:  # whatever a peer does here is its own
            reasons[name] = f"{type(error).__name__}: {first_line(error)}"
    return ready, reasons


def looking(name: str, build: Build, shape: tuple[int, ...], steps: int, rounds: int) -> list[Row]:
    """Rows for one network: steps with the probe against plain ones, and against those of each peer, in blocks of `steps`."""
    plain, again, probed = (Training(build(), shape) for _ in range(3))
    peers, reasons = available(build, shape)
    for training in (plain, again):
        block(training, 3)
    with Probe(probed.model, optimizer=probed.optimizer, budget=PROMISED) as probe:
        block(probed, WARM)
        ours = {
            "plain": lambda: block(plain, steps),
            "probe": lambda: block(probed, steps),
            "again": lambda: block(again, steps),
        }
        theirs = {peer: (lambda t=training: block(t, max(3, steps // 4))) for peer, training in peers.items()}
        taken = in_turn(ours | theirs, rounds)
    readings = probe.readings()
    print(f"{name}: {1e3 * median(taken['plain']):.2f} ms a step, {len(readings.layers)} layer calls")
    print(f"  {len(readings.steps)} of {probe.step} steps sampled; added to a step:")
    for line in added(taken):
        print(f"    {line}")
    return [
        compare(f"{name}: probe", taken["probe"], taken["plain"], "plain step", "s/step"),
        compare(f"{name}: plain again (noise)", taken["again"], taken["plain"], "plain step", "s/step"),
        *(compare(f"{name}: probe", taken["probe"], taken[peer], peer, "s/step") for peer in peers),
        *(unavailable(f"{name}: probe", peer, reason) for peer, reason in reasons.items()),
    ]


def added(taken: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """What each variant adds to a plain step, in percent, with quartiles."""
    for variant in (name for name in taken if name != "plain"):
        shares = [100 * (ours / plain - 1) for ours, plain in zip(taken[variant], taken["plain"], strict=True)]
        low, middle, high = quantiles(shares, n=4, method="inclusive")
        yield f"{variant:<28} {middle:+8.1f} % [{low:+.1f}, {high:+.1f}]"


def clipping(name: str, build: Build, shape: tuple[int, ...], steps: int, rounds: int) -> list[Row]:
    """Rows for clipping alone, within steps: all gradients are as backward left them."""
    trainings = [Training(build(), shape) for _ in range(4)]

    def ours(parameters: list[nn.Parameter], threshold: float) -> None:
        clip_gradients(gradient_norms(parameters), threshold)

    def measure(training: Training, clip: Callable[[list[nn.Parameter], float], object], threshold: float) -> float:
        spent, parameters = 0.0, list(training.model.parameters())
        for _ in range(steps):
            training.optimizer.zero_grad()
            training.backward()
            start = time.process_time()
            clip(parameters, threshold)
            spent += time.process_time() - start
            training.optimizer.step()
        return spent / steps

    rows = []
    for case, threshold in (("nothing to clip", 1e9), ("always clipped", 1e-3)):
        one, other = trainings.pop(), trainings.pop()
        peer = nn.utils.clip_grad_norm_
        variants = {
            "ours": lambda t=one, limit=threshold: measure(t, ours, limit),
            "torch": lambda t=other, limit=threshold, clip=peer: measure(t, clip, limit),
        }
        taken = in_turn(variants, rounds)
        label = f"{name}: clipping, {case}"
        rows.append(compare(label, taken["ours"], taken["torch"], "clip_grad_norm_", "s/step"))
    return rows


def isometry(rounds: int) -> list[Row]:
    """The isometry defect of a ResNet block of 16 maps of 32 x 32."""
    from deepforward.instruments.jacobian_spectrum import JacobianSpectrum
    from deepforward.models.residual import Block

    torch.manual_seed(0)
    block, rng = Block(16, 16, 1, residual=True), torch.Generator().manual_seed(0)
    batch = torch.randn(1, 16, 32, 32, generator=rng)
    instrument = JacobianSpectrum(samples=1, sigma_max=False)

    def measure() -> float:
        start = time.process_time()
        found.append(instrument.measure(block, [batch], lambda model, inputs: model(inputs).sum()))
        return time.process_time() - start

    found: list = []
    measure()
    row = against_bound("isometry defect 16384 -> 16384", [measure() for _ in range(rounds)], 0.05, "s")
    spectrum = found[-1].maps[0]
    print(f"isometry defect {spectrum.isometry_defect:.4f}, standard error {spectrum.error:.4f}")
    return [{**row, "defect": spectrum.isometry_defect, "standard_error": spectrum.error}]


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
    warnings.simplefilter("ignore")  # the peers' own
    torch.manual_seed(0)
    rounds = 5 if options.quick else 15
    few = 8 if options.quick else 24
    rows = looking("perceptron", perceptron, (784,), steps=200, rounds=rounds)
    rows += looking("ResNet-20", resnet20, (3, 32, 32), steps=few, rounds=rounds)
    rows += clipping("perceptron", perceptron, (784,), steps=40, rounds=rounds)
    rows += clipping("ResNet-20", resnet20, (3, 32, 32), steps=few // 4, rounds=rounds)
    rows += isometry(rounds)
    publish("cost of looking", rows, options.json)


if __name__ == "__main__":
    main()

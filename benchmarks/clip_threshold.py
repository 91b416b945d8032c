"""Is kappa = 3 in the clipping threshold kappa / (L1 rate) a good choice on problems that it was not chosen on?

A threshold is concluded from a walk of 24 steps before training (`clinic.curvature`), for every kappa. Then 300 steps of plain
SGD at two rates a factor 10 apart; the final loss is the mean over the last 20 batches, the median over seeds. Problems: a
chaotic GELU perceptron and a plain convolutional network of 14 layers with too large weights, and an LSTM that reads pixel by
pixel from large recurrent weights, all on the digits. `ratio` is the final loss of the best fixed threshold of {0.1, 0.3, 1, 3,
10} for that problem and rate, over that of the rule: above 1, the rule is better than the best of five by hand.
Usage: python benchmarks/clip_threshold.py [--quick] [--json FILE]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import median

import torch
from comparison import Row, arguments, publish
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.clinic.curvature import threshold_of
from deepforward.data import Scaling, load
from deepforward.instruments import LocalSmoothness

KAPPAS = (1.0, 2.0, 3.0, 4.0, 8.0)
HAND = (0.1, 0.3, 1.0, 3.0, 10.0)
Batches = Iterator[tuple[Tensor, Tensor]]


class PixelReader(nn.Module):
    """An LSTM over the 64 pixels of a digit, recurrent weights 4 times torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.output = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 10)
        with torch.no_grad():
            self.lstm.weight_hh_l0.mul_(4)

    def forward(self, images: Tensor) -> Tensor:
        """Logits from the last state."""
        return self.output(self.lstm(images.flatten(1)[:, :, None])[0][:, -1])


def perceptron() -> nn.Module:
    """16 layers of GELU with weights of variance 3 / fan-in."""
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(16):
        layers += [_with_variance(nn.Linear(64, 64), 3.0), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def convolutional() -> nn.Module:
    """14 convolutions of 12 maps with weights of variance 3 / fan-in, without normalisation."""
    layers: list[nn.Module] = []
    for k in range(14):
        layers += [_with_variance(nn.Conv2d(12 if k else 1, 12, 3, 2 if k == 7 else 1, padding=1), 3.0), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 10))


def _with_variance(layer: nn.Linear | nn.Conv2d, variance: float) -> nn.Module:
    nn.init.normal_(layer.weight, 0.0, math.sqrt(variance / layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


#: Name -> how it is built, and the two rates.
PROBLEMS: dict[str, tuple[Callable[[], nn.Module], tuple[float, float]]] = {
    "GELU perceptron": (perceptron, (0.1, 1.0)),
    "plain convolutions": (convolutional, (0.1, 1.0)),
    "LSTM": (PixelReader, (1.0, 10.0)),
}


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy, nats."""
    return F.cross_entropy(model(batch[0]), batch[1])


def batches(seed: int) -> Batches:
    """Batches of 64 standardised digits, epoch after epoch."""
    data = load("digits").train
    inputs = Scaling.fit("standardise", data.inputs)(data.inputs)
    rng = torch.Generator().manual_seed(seed)
    while True:
        for index in torch.randperm(len(inputs), generator=rng).split(64)[:-1]:
            yield inputs[index], data.targets[index]


def built(problem: str, seed: int) -> nn.Module:
    """The untrained network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PROBLEMS[problem][0]()


def trained(problem: str, seed: int, rate: float, clip: float, steps: int) -> float:
    """Final loss of plain SGD; inf where it diverged."""
    model, source, losses = built(problem, seed), batches(seed), []
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(steps):
        loss = loss_of(model, next(source))
        if not loss.isfinite():
            return math.inf
        optimizer.zero_grad()
        loss.backward()
        if clip < math.inf:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-20:]) / 20


def measured(problem: str, rate: float, seeds: range, steps: int) -> Iterator[Row]:
    """A row for every kappa, with the other choices beside."""
    walks = {}
    for seed in seeds:
        source = batches(seed)
        walks[seed] = LocalSmoothness(24, beyond=()).measure(built(problem, seed), [next(source) for _ in range(22)], loss_of)

    def final(clip: Callable[[int], float]) -> float:
        return median(trained(problem, seed, rate, clip(seed), steps) for seed in seeds)

    without = final(lambda seed: math.inf)
    hand = {c: final(lambda seed, c=c: c) for c in HAND}
    best = min(hand.values())
    identified = sum(walk.fit is not None and walk.fit.identified for walk in walks.values())
    print(f"{problem}, rate {rate}: L1 identified in {identified} of {len(seeds)}; by hand {hand}", flush=True)
    for kappa in KAPPAS:
        thresholds = [threshold_of(walk, rate, kappa=kappa).threshold for walk in walks.values()]
        ours = final(dict(zip(walks, thresholds, strict=True)).__getitem__)
        ratio = best / ours if ours else None
        yield {
            "name": f"{problem}, rate {rate:g}, kappa {kappa:g}", "ours": ours, "peer": best, "peer_name": "best by hand",
            "unit": "nats", "ratio": ratio, "ratio_quartiles": [ratio, ratio], "n": len(seeds),
            "note": f"threshold {median(thresholds):.3g}; without clipping {without:.3g}", "rate": rate, "kappa": kappa,
        }  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__.splitlines()[0])
    torch.set_num_threads(1)
    seeds, steps = (range(1), 60) if options.quick else (range(3), 300)
    rows = [row for problem, (_, rates) in PROBLEMS.items() for rate in rates for row in measured(problem, rate, seeds, steps)]
    publish("Clipping threshold by kappa", rows, options.json)
    for kappa in KAPPAS:
        ratios = [row["ratio"] for row in rows if row["kappa"] == kappa]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"  kappa {kappa:g}: worst ratio {min(ratios):.2f}, geometric mean {mean:.2f}")


if __name__ == "__main__":
    main()

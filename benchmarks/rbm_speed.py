"""How many examples a second does an RBM 784x500 train on? Goals at batch 500: 4 times scikit-learn, 6 times rbms, learnergy.

All learn the same 10,000 MNIST digits on as many threads, of BLAS and OpenMP alike. Ours is a training step of the engine with
its defaults and all it does besides: indexing raw bytes, scaling, a new stochastic binarisation, centring, the schedule,
gradient norms, averaged weights. The peers are given float32 bits, drawn once from the same digits: scikit-learn's
`partial_fit` (persistent chains), rbms' gradient and step (persistent; CD by chains begun at the data), learnergy's `fit` (CD)
and the step within it; what each leaves out is said below its number. The bounds are the dense matrix products alone (data,
chains down and up, and one stacked gradient product), in bf16 and in float32, nothing drawn, nothing added; ours adds rows of
the weights instead where bits are sparse and the processor has no matrix tiles, and might exceed it. All take turns in blocks
of examples.
Usage: python benchmarks/rbm_speed.py [--quick] [--json FILE]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from comparison import arguments, compare, in_turn, publish, unavailable
from threadpoolctl import threadpool_limits
from torch import Tensor

from deepforward import Recipe
from deepforward.data import Dataset, load
from deepforward.engine import averaging
from deepforward.engine.assembly import assemble
from deepforward.engine.randomness import stream
from deepforward.engine.schedule import rate
from deepforward.engine.step import Stepper

THREADS, HIDDEN, RATE = 2, 500, 0.01
DATA = "mnist?train=10000&test=1000"
BATCHES = (100, 500)
Training = Iterator[None]


def engine(data: Dataset, batch_size: int, persistent: bool, precision: str = "auto") -> Training:
    """Training steps of the engine, without its progress bar and run folder."""
    options = {"persistent": persistent, "chains": batch_size}
    recipe = Recipe(model="rbm", model_options={"hidden": HIDDEN}, data=DATA, validation=0.0, batch_size=batch_size,
                    objective_options=options, precision=precision, learning_rate=RATE).complete()  # fmt: skip
    parts, order, done = assemble(recipe, data), stream(0, "order"), 0
    stepper, averages = Stepper(parts, stream(0, "objective")), {}
    parts.model.train()
    while True:
        for indices in torch.randperm(len(parts.train), generator=order).split(batch_size):
            stepper.set_rate(rate(recipe.schedule or "", recipe.schedule_options, RATE, done, 10**6))
            stepper.step(parts.batch(parts.train, indices), _require_finite, measure=done % 10 == 0)
            if done % averaging.EVERY == 0:
                averaging.update(averages, parts.model, recipe.averaging or 0.0, done)
            done += 1
            yield


def products(batch_size: int, dtype: torch.dtype) -> Training:
    """The matrix products of a step and nothing else."""
    rng = torch.Generator().manual_seed(0)
    weight = torch.rand(784, HIDDEN, generator=rng).to(dtype)
    visible, hidden = (torch.rand(batch_size, n, generator=rng).to(dtype) for n in (784, HIDDEN))
    stacked = torch.cat((visible, visible)), torch.cat((hidden, hidden))
    while True:
        visible @ weight, hidden @ weight.t(), visible @ weight, stacked[0].t() @ stacked[1]
        yield


def scikit_learn(examples: np.ndarray, batch_size: int) -> Training:
    """BernoulliRBM.partial_fit, float32."""
    from sklearn.neural_network import BernoulliRBM

    model = BernoulliRBM(HIDDEN, learning_rate=RATE, batch_size=batch_size, random_state=0)
    while True:
        for start in range(0, len(examples), batch_size):
            model.partial_fit(examples[start : start + batch_size])
            yield


def rbms(examples: np.ndarray, batch_size: int, persistent: bool) -> Training:
    """The step of rbms' training loop (`rbms.training.pcd.train`), centred as by default."""
    from rbms.bernoulli_bernoulli.classes import BBRBM
    from rbms.training.pcd import fit_batch_pcd

    rng = torch.Generator().manual_seed(0)
    data = torch.from_numpy(examples)
    model = BBRBM(torch.randn(784, HIDDEN, generator=rng) * 0.01, torch.zeros(784), torch.zeros(HIDDEN))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, maximize=True)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    chains, weights = model.init_chains(batch_size), torch.ones(len(data), 1)
    while True:
        for indices in torch.randperm(len(data), generator=rng).split(batch_size):
            with torch.no_grad():
                batch = data[indices], weights[indices]
                if not persistent:
                    chains = model.init_chains(len(indices), weights=batch[1], start_v=batch[0])
                optimizer.zero_grad(set_to_none=False)
                chains, _ = fit_batch_pcd(batch=batch, parallel_chains=chains, params=model, gibbs_steps=1, beta=1.0)
                optimizer.step()
            yield


def learnergy(examples: np.ndarray, batch_size: int, amount: int) -> Callable[[], float]:
    """Examples a second of learnergy's `RBM.fit`, which also computes a pseudo-likelihood of every batch."""
    import logging

    logging.disable(logging.INFO)
    from learnergy.models.bernoulli import RBM
    from torch.utils.data import TensorDataset

    model = RBM(784, HIDDEN, steps=1, learning_rate=RATE)
    data = TensorDataset(torch.from_numpy(examples)[:amount], torch.zeros(min(amount, len(examples))))

    def measure() -> float:
        start = time.perf_counter()
        model.fit(data, batch_size=batch_size, epochs=1)
        return len(data) / (time.perf_counter() - start)

    return measure


def learnergy_step(examples: np.ndarray, batch_size: int) -> Training:
    """The step within it: Gibbs sampling, free energies, autograd and optimiser, without DataLoader and pseudo-likelihood."""
    import logging

    logging.disable(logging.INFO)
    from learnergy.models.bernoulli import RBM

    model, data = RBM(784, HIDDEN, steps=1, learning_rate=RATE), torch.from_numpy(examples)
    while True:
        for samples in data.split(batch_size):
            dreamt = model.gibbs_sampling(samples)[4].detach()
            cost = model.energy(samples).mean() - model.energy(dreamt).mean()
            model.optimizer.zero_grad()
            cost.backward()
            model.optimizer.step()
            yield


def _require_finite(number: Tensor) -> None:
    if not number.isfinite():
        raise FloatingPointError(f"loss or gradient became {number.item()}")


def drawn_bits(data: Dataset) -> np.ndarray:
    """Each pixel of the training digits as 1 with the probability of its grey value, drawn once, float32."""
    grey = data.train.inputs.flatten(1).float() / 255
    return torch.bernoulli(grey, generator=torch.Generator().manual_seed(0)).numpy()


def block(training: Training, examples: int, batch_size: int) -> Callable[[], float]:
    """Examples a second over about so many of them."""
    steps = max(1, examples // batch_size)

    def measure() -> float:
        start = time.perf_counter()
        for _ in range(steps):
            next(training)
        return steps * batch_size / (time.perf_counter() - start)

    return measure


def peers(examples: np.ndarray, batch_size: int, amount: int) -> dict[str, Callable[[], Callable[[], float]]]:
    """Name -> what makes its measurement; ImportError where it is not installed."""

    def steps(training: Training) -> Callable[[], float]:
        next(training)
        return block(training, amount, batch_size)

    return {
        "scikit-learn": lambda: steps(scikit_learn(examples, batch_size)),
        "rbms PCD": lambda: steps(rbms(examples, batch_size, True)),
        "rbms CD": lambda: steps(rbms(examples, batch_size, False)),
        "learnergy CD": lambda: learnergy(examples, batch_size, amount),
        "learnergy CD, step alone": lambda: steps(learnergy_step(examples, batch_size)),
    }


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__.splitlines()[0])
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    with threadpool_limits(THREADS):  # numpy's BLAS is another library than torch's, with threads of its own
        publish("RBM 784x500 training speed on a CPU, MNIST digits", measured(options.quick), options.json)


def measured(quick: bool) -> list[Any]:
    """The rows."""
    data = load(DATA)
    examples = drawn_bits(data)
    amount, rounds = (4000, 5) if quick else (20_000, 11)
    rows: list[Any] = []
    for batch_size in BATCHES:
        trainings = {
            "CD-1": engine(data, batch_size, persistent=False),
            "PCD-1": engine(data, batch_size, persistent=True),
            "PCD-1 fp32": engine(data, batch_size, persistent=True, precision="fp32"),
            "bf16": products(batch_size, torch.bfloat16),
            "float32": products(batch_size, torch.float32),
        }
        variants = {name: block(training, amount, batch_size) for name, training in trainings.items()}
        absent: dict[str, str] = {}
        for name, make in peers(examples, batch_size, amount).items():
            try:
                variants[name] = make()
            except ImportError as error:
                absent[name] = f"not installed ({error.name}); pip install 'deepforward[bench]'"
        for measure in variants.values():
            measure()  # warm
        taken = in_turn(variants, rounds)
        rows += [_row(ours, peer, batch_size, taken, absent) for ours, peer in _PAIRS]
    return rows


#: What is held against what: the same algorithm where the peer has it.
_PAIRS = (
    ("PCD-1", "scikit-learn"),
    ("PCD-1", "rbms PCD"),
    ("CD-1", "rbms CD"),
    ("CD-1", "learnergy CD"),
    ("CD-1", "learnergy CD, step alone"),
    ("PCD-1 fp32", "scikit-learn"),
    ("CD-1", "bf16"),
    ("PCD-1", "bf16"),
    ("PCD-1 fp32", "float32"),
)

_EXTRAS = "binarising anew, averaged weights, gradient norms, a schedule"
#: Peer -> what its number leaves out of what ours does, and what it does besides.
_NOTES = {
    "scikit-learn": f"leaves out shuffling, centring, {_EXTRAS}",
    "rbms PCD": f"centred; leaves out {_EXTRAS}",
    "rbms CD": f"centred; leaves out {_EXTRAS}",
    "learnergy CD": f"leaves out centring, {_EXTRAS}; loads by a DataLoader, and computes a pseudo-likelihood of each batch",
    "learnergy CD, step alone": f"leaves out loading and shuffling, centring, {_EXTRAS}",
    "bf16": "dense products of a step alone, in bf16: no draws, no sigmoids, no update",
    "float32": "dense products of a step alone, in float32: no draws, no sigmoids, no update",
}


def _row(ours: str, peer: str, batch_size: int, taken: dict[str, list[float]], absent: dict[str, str]) -> Any:
    name = f"{ours}, batch {batch_size}"
    if peer in absent:
        return unavailable(name, peer, absent[peer])
    shown = f"products alone, {peer}" if peer in ("bf16", "float32") else peer
    compared = compare(name, taken[ours], taken[peer], shown, "examples/s", less_is_better=False)
    return {**compared, "note": _NOTES[peer]}


if __name__ == "__main__":
    main()

"""A run as the engine would record it: 56 plain layers whose gradient vanishes, and its cured twin."""

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits

from deepforward.report import RunRecord


@dataclass(frozen=True)
class Readings:
    layers: tuple
    kinds: tuple
    steps: tuple
    values: dict


def readings(depth: int, samples: int, rate: float = 7.2, seed: int = 0) -> Readings:
    rng = np.random.default_rng(seed)
    calls = 2 * depth
    kinds = tuple("Linear" if i % 2 == 0 else "ReLU" for i in range(calls))
    weighted = np.array([kind == "Linear" for kind in kinds])
    from_output = (calls - 1 - np.arange(calls)) // 2
    noise = rng.lognormal(0, 0.25, (5, samples, calls))
    gradient = 1e-2 * np.exp(-np.minimum(from_output * np.log(rate), 250.0)) * noise[0]
    return Readings(
        layers=tuple(f"body.{i}#0" for i in range(calls)),
        kinds=kinds,
        steps=tuple(range(0, 25 * samples, 25)),
        values={
            "activation_rms": 0.7 ** (np.arange(calls) / 2) * noise[1],
            "gradient_rms": gradient,
            "parameter_gradient_norm": np.where(weighted, 30 * gradient * noise[2], np.nan),
            "update_ratio": np.where(weighted, 0.1 * gradient * noise[3], np.nan),
            "dead_share": np.where(weighted, np.nan, np.clip(0.4 * noise[4], 0, 1)),
        },
    )


def history(epochs: int, start: float, end: float, accuracy: float) -> list[dict]:
    progress = 1 - np.exp(-3 * np.linspace(0, 1, epochs))
    loss, score = start + (end - start) * progress, 0.1 + (accuracy - 0.1) * progress
    return [
        {
            "epoch": i + 1,
            "step": 40 * (i + 1),
            "train/loss": float(loss[i]),
            "validation/loss": float(loss[i] * 1.08),
            "train/accuracy": float(score[i]),
            "validation/accuracy": float(score[i] * 0.98),
            "learning_rate": 0.1,
        }
        for i in range(epochs)
    ]


def record() -> RunRecord:
    rng = np.random.default_rng(0)
    digits = load_digits()
    images = digits.images[:, None].astype(np.float32)
    confusion = np.diag(rng.integers(30, 37, 10)) + rng.poisson(0.4, (10, 10))
    return RunRecord(
        recipe={
            "model": "perceptron",
            "model_options": {"depth": 56, "width": 64, "activation": "relu"},
            "alterations": (),
            "data": "digits",
            "scaling": "standardise",
            "epochs": 20,
            "batch_size": 32,
            "optimizer": "sgd",
            "optimizer_options": {"momentum": 0.9},
            "learning_rate": 0.05,
            "weight_decay": 0.0001,
            "schedule": "constant",
            "clip": None,
            "precision": "auto",
            "seed": 0,
        },
        command="deepforward train perceptron --data digits --epochs 20 --seed 0 --set model_options.depth=56 --out runs/first",
        versions={"deepforward": "0.1.0", "torch": "2.13.0", "python": "3.11.9", "machine": "x86_64"},
        metrics={"test/accuracy": 0.1018, "test/loss": 2.3031, "train/loss": 2.3023},
        findings=[
            {
                "rule": "vanishing",
                "layer": "body.92",
                "severity": 1.0,
                "cause": "The gradient shrinks 7.2 times per layer from output to input and reaches the first layer "
                "47 powers of ten smaller than the last.",
                "evidence": {"rate_per_layer": 0.139, "decades": -47.1},
                "source": "Glorot, Bengio 2010; Schoenholz et al. 2017",
                "prescriptions": ["residual-connections", "batch-normalisation"],
            },
            {
                "rule": "dead-units",
                "layer": "body.41",
                "severity": 0.4,
                "cause": "41% of the ReLU units of 9 layers are zero on every example.",
                "evidence": {"share": 0.41},
                "source": "Maas, Hannun, Ng 2013",
                "prescriptions": ["activation-swap"],
            },
        ],
        verdicts=[
            {
                "prescription": "residual-connections",
                "outcome": "cured",
                "before": [0.101, 0.098, 0.106, 0.101, 0.095],
                "after": [0.953, 0.961, 0.949, 0.957, 0.944],
                "seeds": [0, 1, 2, 3, 4],
            },
            {
                "prescription": "gradient-clipping",
                "outcome": "no effect",
                "before": [0.101, 0.098, 0.106, 0.101, 0.095],
                "after": [0.101, 0.102, 0.095, 0.106, 0.101],
                "seeds": [0, 1, 2, 3, 4],
            },
        ],
        history=history(20, 2.31, 2.302, 0.11),
        twins={"residual connections": history(20, 2.31, 0.05, 0.96)},
        readings=readings(56, 36),
        confusion=confusion,
        classes=tuple("0123456789"),
        mistakes=images[100:124],
        mistake_captions=[
            f"{digits.target[100 + i]} taken for {(digits.target[100 + i] + 3) % 10} ({98 - i}%)" for i in range(24)
        ],
        filters=rng.normal(size=(64, 1, 8, 8)).astype(np.float32),
        first_images=images[:40],
        data={
            "name": "digits",
            "training examples": 1437,
            "test examples": 360,
            "shape": (1, 8, 8),
            "classes": 10,
            "licence": "CC BY 4.0",
        },
    )

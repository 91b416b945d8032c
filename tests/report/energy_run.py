"""A run of a restricted Boltzmann machine as the engine would record it."""

import numpy as np
from sklearn.datasets import load_digits

from deepforward.report import RunRecord


def history(epochs: int) -> list[dict]:
    progress = 1 - np.exp(-3 * np.linspace(0, 1, epochs))
    return [
        {
            "epoch": i + 1,
            "step": 40 * (i + 1),
            "train/loss": float(-3 * (1 - p)),
            "validation/reconstruction": float(0.15 - 0.1 * p),
            "validation/pseudo_log_likelihood": float(-25 + 10 * p),
            "train/free_energy": float(-40 - 20 * p),
            "validation/free_energy": float(-39 - 17 * p),
            "chains/mixing": float(1 - 0.5 * p),
            "chains/diversity": float(0.4 + 0.6 * p),
            "units/dead": float(0.2 * p),
            "units/always_on": 0.0,
            "learning_rate": 0.1,
        }
        for i, p in enumerate(progress)
    ]


def record() -> RunRecord:
    rng = np.random.default_rng(0)
    images = (load_digits().images[:, None] * 15).astype(np.uint8)
    noise = lambda *shape: rng.integers(0, 256, (*shape, 1, 8, 8), dtype=np.uint8)  # noqa: E731
    return RunRecord(
        recipe={
            "model": "rbm",
            "model_options": {"hidden": 64},
            "data": "digits",
            "objective": "contrastive-divergence",
            "objective_options": {"persistent": True},
            "epochs": 20,
            "seed": 0,
        },
        metrics={
            "train/loss": -0.2,
            "test/reconstruction": 0.0912,
            "test/free_energy": -58.1,
            "test/pseudo_log_likelihood": -16.2,
            "log_partition": 78.61,
            "log_partition_low": 78.4,
            "log_partition_high": 78.7,
            "test/log_likelihood": -23.7,
            "test/log_likelihood_low": -23.79,
            "test/log_likelihood_high": -23.49,
        },
        history=history(20),
        classes=tuple("0123456789"),
        filters=rng.normal(size=(64, 1, 8, 8)).astype(np.float32),
        first_images=images[:40],
        data={"name": "digits", "shape": (1, 8, 8)},
        descends=False,
        portrait={
            "samples": images[:48],
            "chains": noise(8, 10),
            "reconstructions": noise(12, 2),
            "completions": noise(12, 3),
            "hidden_activity": rng.uniform(0, 1, 64).astype(np.float32),
            "activity_map": rng.uniform(0, 1, (96, 64)).astype(np.float32),
            "weights": rng.normal(size=4096).astype(np.float32),
            "free_energy/train": rng.normal(-60, 8, 500).astype(np.float32),
            "free_energy/test": rng.normal(-58, 8, 300).astype(np.float32),
        },
        snapshots={epoch: {"samples": noise(40)} for epoch in (1, 2, 3, 4, 5, 7, 9, 12, 15, 20)},
        stages=[
            {
                "name": "pretraining-1",
                "changes": {"epochs": 5, "objective_options": {"steps": 1}},
                "status": "finished",
                "epochs": 5,
                "metrics": {"test/reconstruction": 0.12, "test/free_energy": -3.0},
            }
        ],
    )

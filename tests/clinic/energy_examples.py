"""Histories and evidence, made by hand, of models that learn from their own samples, and a recipe of one."""

from dataclasses import replace

from deepforward.clinic import Evidence
from deepforward.clinic.rules.energy import idle_units, overfitting, stuck_chains, unstable_learning
from deepforward.engine import Recipe

CHANCE, FLOOR = 30.0, 10.0
PERSISTENT = {"objective": "contrastive-divergence", "objective_options": {"persistent": True}}
HEALTHY = {
    "chains/mixing": 1.0,
    "chains/diversity": 1.0,
    "units/dead": 0.0,
    "units/always_on": 0.0,
    "train/free_energy": -50.0,
    "validation/free_energy": -49.5,
    "validation/pseudo_log_likelihood": -20.0,
}
RECIPE = Recipe(
    model="rbm",
    model_options={"hidden": 8, "weight_scale": 0.5},
    data="bars-and-stripes?n=200",
    objective_options={"persistent": True, "centre": False},
    learning_rate=0.5,
    schedule="constant",
    validation=0.2,
    epochs=4,
    batch_size=20,
    averaging=0.0,
    precision="fp32",
    threads=1,
)


def rows(*late: dict[str, float], first: int = 2) -> list[dict[str, float]]:
    """Healthy epochs, then as many or more that differ from them."""
    return [{"epoch": i, "step": 200 * i, "train/loss": 0.1} | HEALTHY | row for i, row in enumerate(({},) * first + late, 1)]


def machine(*late: dict[str, float], reached: float | None = 25.0, **changes: object) -> Evidence:
    """Evidence of a machine that has learnt a quarter of what there is, and ended in that state."""
    seen = Evidence(
        history=rows(*late, *late[-1:], *({},) * (not late)),
        recipe=PERSISTENT,
        descends=False,
        chance=CHANCE,
        floor=FLOOR,
        reached=reached,
    )
    return replace(seen, **changes)


ILL = {
    stuck_chains: {"chains/mixing": 0.05},
    idle_units: {"units/dead": 0.4, "units/always_on": 0.3},
    overfitting: {"validation/free_energy": -40.0},
    unstable_learning: {"chains/mixing": 3.0},
}

"""A run folder -> its report."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepforward import report
from deepforward.data import Dataset
from deepforward.engine import checkpoint
from deepforward.engine.recipe import Recipe
from deepforward.engine.run import Run
from deepforward.report import RunRecord

#: How many images a section shows at most.
_IMAGES = 24


def write_report(run: Run, path: Path) -> Path:
    """Draw everything the run left as one HTML file."""
    return report.write(report.run_page(record_of(run)), path)


def record_of(run: Run) -> RunRecord:
    """The run as the plain values that its page is drawn from."""
    result = run.result
    before = run.folder / result.get("untreated", "nowhere")
    return RunRecord(
        recipe=vars(run.recipe),
        command=_command(run.recipe),
        status=result.get("status", "not finished"),
        versions=result.get("versions", {}) | result.get("arithmetic", {}),
        metrics=run.metrics,
        findings=result.get("findings"),
        verdicts=result.get("verdicts", ()),
        history=run.history,
        untreated=record_of(Run.open(before, run.given_data)) if (before / "recipe.json").is_file() else None,
        readings=run.readings,
        classes=run.data.classes,
        data=_facts(run.data),
        **_pictures_of_data(run.data),
        **(_pictures_of_model(run) if checkpoint.exists(run.folder / "checkpoints", "newest") else {}),
    )


def _command(recipe: Recipe) -> str:
    """The command that trains the same again: only what differs from the model's own recipe."""
    usual = Recipe(model=recipe.model, objective=recipe.objective).complete()
    changed = {name: getattr(recipe, name) for name in usual.differences(recipe) if name not in ("data", "epochs", "seed")}
    words = ["deepforward", "train", recipe.model]
    words += ["--data", recipe.data, "--epochs", str(recipe.epochs), "--seed", str(recipe.seed)]
    for field, value in changed.items():
        group = field.removesuffix("_options")
        prefix = f"{group}." if group not in (field, "model") else ""
        for key, chosen in (value if group != field else {field: value}).items():
            words += ["--set", f"{prefix}{key}={chosen if isinstance(chosen, str) else json.dumps(chosen)}"]
    return shlex.join(words)


def _facts(data: Dataset) -> dict[str, Any]:
    facts = {"name": data.name, "training examples": len(data.train), "test examples": len(data.test), "shape": data.shape}
    return facts | {"classes": ", ".join(data.classes), "licence": data.licence, "cite": data.citation}


def _pictures_of_data(data: Dataset) -> dict[str, Any]:
    if not _is_image(data.shape):
        return {}
    captions = [_target(data, target) for target in data.train.targets[:_IMAGES]]
    return {"first_images": _pixels(data.train.inputs[:_IMAGES]), "first_captions": captions}


def _pictures_of_model(run: Run) -> dict[str, Any]:
    """Filters of the first layer and, for a classifier, the confusion matrix and the worst mistakes."""
    parts, data = run.parts(), run.data
    drawn: dict[str, Any] = {"filters": _first_filters(parts.model, data.shape)}
    if not data.classes:
        return drawn
    said = run.evaluation()
    drawn["confusion"] = said.confusion().numpy()
    worst = said.worst(_IMAGES)
    if _is_image(data.shape) and len(worst):
        certainty, given = said.probabilities[worst].max(1)
        drawn["mistakes"] = _pixels(data.test.inputs[worst])
        drawn["mistake_captions"] = [
            f"{_target(data, target)} taken for {data.classes[int(label)]} ({float(share):.0%})"
            for target, label, share in zip(data.test.targets[worst], given, certainty, strict=True)
        ]
    return drawn


def _first_filters(model: nn.Module, shape: tuple[int, ...]) -> np.ndarray | None:
    """Weights of the first layer as images, where the data are images."""
    layer = next((m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))), None)
    if layer is None or not _is_image(shape):
        return None
    weight = layer.weight.detach().float().cpu()[:64]
    if isinstance(layer, nn.Linear):
        if layer.in_features != int(np.prod(shape)):
            return None
        weight = weight.reshape(-1, *shape)
    elif min(weight.shape[2:]) < 2:
        return None
    return weight.contiguous().numpy()


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] in (1, 3)


def _pixels(images: Tensor) -> np.ndarray:
    """Images as uint8, the range of the data spread over black to white."""
    if images.dtype == torch.uint8 and int(images.max()) > 32:
        return images.cpu().numpy()
    values = images.float().cpu()
    low, high = values.min(), values.max()
    return ((values - low) / (high - low).clamp(min=1e-12) * 255).to(torch.uint8).numpy()


def _target(data: Dataset, target: Tensor) -> str:
    return data.classes[int(target)] if data.classes else f"{float(target):.4g}"

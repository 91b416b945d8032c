"""A run folder -> its report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepforward import report
from deepforward.data import Dataset, Scaling, Split
from deepforward.engine import checkpoint
from deepforward.engine.assembly import Parts
from deepforward.engine.command import command_of
from deepforward.engine.evaluation import chunks, evaluate_examples, looking, portrait
from deepforward.engine.pixels import is_image, pixels
from deepforward.engine.run import Run, load_module
from deepforward.layers.neocognitron import SLayer
from deepforward.metrics.segmentation import confusion_of
from deepforward.models.energy.convolutional_rbm import ConvolutionalRBM
from deepforward.models.energy.energy_model import EnergyModel
from deepforward.report import MaskRecord, RunRecord
from deepforward.report.measures import headline, spoken

#: How many images a section shows at most, how many filters, and how many receptive fields.
_IMAGES, _FILTERS, _FIELDS = 24, 64, 100
#: How many test images are shown with their masks.
_MASKS = 6
#: Examples of each split that a portrait is made from.
_PORTRAYED = 2000


def write_report(run: Run, path: Path) -> Path:
    """Draw everything the run left as one HTML file."""
    return report.write(report.run_page(record_of(run)), path)


def record_of(run: Run) -> RunRecord:
    """The run as the plain values that its page is drawn from."""
    before = run.folder / run.result.get("untreated", "nowhere")
    untreated = record_of(Run.open(before, run.given_data)) if (before / "recipe.json").is_file() else None
    drawn = _pictures_of_model(run) if checkpoint.exists(run.folder / "checkpoints", "newest") else {}
    return _record(run, untreated=untreated, **drawn)


def record_so_far(run: Run) -> RunRecord:
    """What a run that goes on has written so far, with nothing that takes its model: that is being trained.

    No network is built and no random number drawn, so that it may be called beside the training, in a thread of its own.
    """
    if "status" in run.result:
        return _record(run)
    is_pictured = checkpoint.exists(run.folder / "checkpoints", "newest")
    return _record(run, progress=_progress(run), snapshots=_snapshots(run, _newest_scaling(run)) if is_pictured else {})


def _record(run: Run, **more: Any) -> RunRecord:
    result = run.result
    return RunRecord(
        recipe=vars(run.recipe),
        command=command_of(run.recipe, run.data.task),
        status=result.get("status", "not finished"),
        versions=result.get("versions", {}) | result.get("arithmetic", {}),
        metrics=run.metrics,
        findings=result.get("findings"),
        verdicts=result.get("verdicts", ()),
        history=run.history,
        readings=run.readings,
        classes=run.data.classes,
        data=_facts(run.data),
        descends=run.descends,
        stages=_stages(run),
        **_pictures_of_data(run.data),
        **more,
    )


def _progress(run: Run) -> dict[str, Any]:
    """Epochs and steps done, and the numbers of the last epoch."""
    history, readings = run.history, run.readings
    told: dict[str, Any] = {"epochs done": f"{len(history)} of {run.recipe.epochs}"}
    seen = readings.steps[-1] if readings is not None and readings.steps else 0
    told["steps done"] = max(seen, int(history[-1]["step"]) if history else 0)
    last = {name: value for name, value in history[-1].items() if name.startswith("validation/")} if history else {}
    return told | {spoken(measure.name): measure.number() for measure in headline(last)}


def _newest_scaling(run: Run) -> Scaling:
    tensors, _ = checkpoint.load(run.folder / "checkpoints", "newest")
    scaling = Scaling(run.recipe.scaling or "none", run.data.shape)
    load_module(scaling, tensors, "scaling")
    return scaling


def _facts(data: Dataset) -> dict[str, Any]:
    facts = {"name": data.name, "training examples": len(data.train), "test examples": len(data.test), "shape": data.shape}
    return facts | {"classes": ", ".join(data.classes), "licence": data.licence, "cite": data.citation}


def _pictures_of_data(data: Dataset) -> dict[str, Any]:
    if not is_image(data.shape):
        return {}
    targets = data.train.targets[:_IMAGES]
    captions = [_target(data, target) for target in targets] if targets.ndim == 1 else []
    return {"first_images": pixels(data.train.inputs[:_IMAGES]), "first_captions": captions}


def _pictures_of_model(run: Run) -> dict[str, Any]:
    """Filters of the first layer, what the model shows of itself and, for a classifier, confusion matrix and worst mistakes."""
    parts, data = run.parts(), run.data
    drawn: dict[str, Any] = {"filters": first_filters(parts.model, data.shape), "portrait": _portrait(parts)}
    drawn["snapshots"] = _snapshots(run, parts.scaling)
    if parts.objective.metric == "mean_iou" and is_image(data.shape):
        drawn["masks"] = _masks(parts)
    if not data.classes or parts.objective.metric != "accuracy":
        return drawn
    said = evaluate_examples(parts, data.test)
    drawn["confusion"] = said.confusion().numpy()
    worst = said.worst(_IMAGES)
    if is_image(data.shape) and len(worst):
        certainty, given = said.probabilities[worst].max(1)
        drawn["mistakes"] = pixels(data.test.inputs[worst])
        drawn["mistake_captions"] = [
            f"{_target(data, target)} taken for {data.classes[int(label)]} ({float(share):.0%})"
            for target, label, share in zip(data.test.targets[worst], given, certainty, strict=True)
        ]
    return drawn


def _masks(parts: Parts) -> MaskRecord:
    """Some test images with the class of each pixel, true and predicted, and the counts of all."""
    test, classes = parts.data.test, len(parts.data.classes)
    confusion, predicted = torch.zeros(classes, classes, dtype=torch.long), []
    with looking(parts), parts.arithmetic.autocast():
        for batch in chunks(parts, test):
            given = parts.model(batch.inputs).argmax(1)
            confusion += confusion_of(given, batch.targets, classes).cpu()
            predicted.append(given.to("cpu", torch.uint8))
    shown = Split(test.inputs, torch.cat(predicted)).spread(_MASKS)
    true = test.spread(_MASKS).targets.numpy()
    images = pixels(shown.inputs, like=parts.data.train.inputs)
    return MaskRecord(images=images, true=true, predicted=shown.targets.numpy(), confusion=confusion.numpy())


def first_filters(model: nn.Module, shape: tuple[int, ...]) -> np.ndarray | None:
    """Weights of the first layer as images, where the data are images; those of a machine by falling norm."""
    weight, is_machine = _first_weight(model) if is_image(shape) else (None, False)
    if weight is None or (weight.shape[1] != math.prod(shape) if weight.ndim == 2 else min(weight.shape[2:]) < 2):
        return None
    weight = weight.detach().float().cpu()
    if is_machine:
        weight = weight[weight.flatten(1).norm(dim=1).argsort(descending=True, stable=True)]
    filters = weight[: _FIELDS if is_machine else _FILTERS]
    return (filters.reshape(-1, *shape) if weight.ndim == 2 else filters).contiguous().numpy()


def _first_weight(model: nn.Module) -> tuple[Tensor | None, bool]:
    """Weights (units, *inputs) of the layer that comes first in the model, and whether it is a machine with hidden units."""
    for module in model.modules():
        if isinstance(module, ConvolutionalRBM):
            return module.weight, True
        if isinstance(module, SLayer):
            return module.a, False
        connections = module.connections if isinstance(module, EnergyModel) else ()
        # A machine of several layers inside a model is not what the model computes with (see `DeepBoltzmannClassifier`).
        if len(connections) == 1 or (connections and module is model):
            weight = module.get_parameter(connections[0].weight)
            return weight.t(), True
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            return module.weight, False
    return None, False


def _portrait(parts: Parts) -> dict[str, np.ndarray]:
    """What the model shows of itself; images as pictures, and none of them where the data are no images."""
    shape, drawn = parts.data.shape, {}
    for name, values in portrait(parts, _PORTRAYED).items():
        if name.startswith("atoms/") or tuple(values.shape[-len(shape) :]) != shape:  # atoms are weights, as large as they are
            drawn[name] = values.cpu().numpy()
        elif is_image(shape):
            drawn[name] = _as_pictures(parts.data, parts.scaling, values)
    return drawn


def _snapshots(run: Run, scaling: Scaling) -> dict[int, dict[str, np.ndarray]]:
    shape = run.data.shape
    return {
        epoch: {
            name: _as_pictures(run.data, scaling, x) for name, x in shown.items() if x.shape[1:] == shape and is_image(shape)
        }
        for epoch, shown in run.snapshots.items()
    }


def _as_pictures(data: Dataset, scaling: Scaling, values: Tensor) -> np.ndarray:
    """Scaled images (..., *shape) as pictures, black and white standing for the ends of the data's range."""
    images = scaling.inverse(values.float().reshape(-1, *data.shape)).cpu()
    return pixels(images, like=data.train.inputs).reshape(values.shape)


def _stages(run: Run) -> list[dict[str, Any]]:
    """The trainings that came first, as far as they left a folder."""
    found = []
    for number, changes in enumerate(run.recipe.pretraining or (), start=1):
        folder = run.folder / f"pretraining-{number}"
        if (folder / "recipe.json").is_file():
            stage = Run.open(folder, run.given_data)
            facts = {"status": stage.result.get("status", "not finished"), "epochs": stage.result.get("epochs")}
            own = {name: changes[name] for name in stage.recipe.differences(run.recipe) if name in changes}
            found.append({"name": folder.name, "changes": own, "metrics": stage.metrics, **facts})
    return found


def _target(data: Dataset, target: Tensor) -> str:
    return data.classes[int(target)] if data.classes else f"{float(target):.4g}"

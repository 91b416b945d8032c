"""Prescriptions: a recipe and the evidence -> a changed recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from deepforward import catalogue
from deepforward.clinic.curvature import clip_threshold
from deepforward.clinic.energy_prescriptions import settled
from deepforward.clinic.finding import Evidence
from deepforward.data import Dataset
from deepforward.engine import Recipe, find_learning_rate
from deepforward.errors import Diverged, NoEffect

#: A prescription: a complete recipe, the evidence and the data -> a changed recipe; raises NoEffect if nothing would change.
Prescription = Callable[[Recipe, Evidence, Dataset], Recipe]

#: Prescription -> the alteration of the built module that it asks for.
_ALTERATIONS = {
    "critical-initialization": "critical-initialization",
    "he-initialization": "he-initialization",
    "batch-normalization": "batch-normalization",
    "residual-connections": "residual",
    "activation-swap": "activation",
    "hybrid-dilation": "hybrid-dilation",
    "growing-dilation": "growing-dilation",
}

#: Module kinds whose flat ends stop the gradient.
_SQUASHING = frozenset({"Tanh", "Sigmoid", "Hardtanh", "Hardsigmoid", "Softsign"})


def prescribe(names: Sequence[str], recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Apply prescriptions in order.

    Raises:
        UnknownName: No card has such a name.
        NoEffect: One of them would change nothing.
    """
    recipe = recipe.complete(data.task)
    for name in names:
        prescription = catalogue.load("prescriptions", name)
        if reason := forestalled(name, asdict(recipe)):
            raise NoEffect(f"{reason}; choose another prescription")
        recipe = prescription(recipe, evidence, data)
    return recipe


def forestalled(name: str, recipe: Mapping[str, Any]) -> str:
    """Why a prescription would change nothing, as far as the recipe alone tells it; "" if it might."""
    for alteration in recipe.get("alterations", ()):
        if alteration.partition("?")[0] == _ALTERATIONS.get(name):
            return f"the recipe has '{alteration}' already"
    if name == "gradient-clipping" and recipe.get("clip") is not None:
        return f"gradients are clipped at {recipe['clip']:.3g} already"
    if name == "gradient-clipping" and recipe.get("optimizer", "sgd") != "sgd":
        return f"got {recipe['optimizer']}, which divides the size of the gradient out"
    if name == "standardise-data" and recipe.get("scaling") == "standardise":
        return "the inputs are standardised already"
    return settled(name, recipe)


def critical_initialization(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Draw the weights at the variance at which neither signal nor gradient changes with depth, for the module's activation.

    Networks deeper than wide get orthogonal weights: Gaussian ones hold the gradient in the mean only, and from network to
    network it varies by decades there.

    Source: Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017; Pennington, Schoenholz, Ganguli 2018.
    """
    is_deeper_than_wide = evidence.phase is not None and evidence.phase.depth_to_width >= 1
    return _altered(recipe, f"critical-initialization{'?orthogonal=true' if is_deeper_than_wide else ''}")


def he_initialization(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Draw the weights with variance 2/fan_in, which keeps the second moment through ReLU, whatever the activation.

    Source: He, Zhang, Ren, Sun 2015.
    """
    return _altered(recipe, "he-initialization")


def batch_normalization(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Normalise each hidden layer over the batch before its activation.

    Source: Ioffe and Szegedy 2015.
    """
    return _altered(recipe, "batch-normalization")


def residual_connections(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Carry the signal past each hidden layer that keeps its shape; a branch without normalisation is scaled by 1/sqrt(depth).

    Source: He, Zhang, Ren, Sun 2016; the scale: Zhang, Dauphin, Ma 2019.
    """
    return _altered(recipe, "residual")


def activation_swap(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Replace squashing activations by leaky ReLU, which has no flat end, and others by SELU, which keeps mean and variance.

    Source: Maas, Hannun, Ng 2013; Klambauer, Unterthiner, Mayr, Hochreiter 2017.
    """
    kinds = set(evidence.readings.kinds) if evidence.readings is not None else set()
    return _altered(recipe, f"activation?name={'leaky-relu' if kinds & _SQUASHING else 'selu'}")


def hybrid_dilation(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Give dilated convolutions rates that leave no holes in the same receptive field.

    Source: Wang, Chen, Yuan, Liu, Huang, Hou, Cottrell 2018.
    """
    return _altered(recipe, "hybrid-dilation")


def growing_dilation(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Spread the kernels of the convolutions by 1, 2, 4, ... from layer to layer: the field grows without a weight more.

    Source: Yu and Koltun 2016.
    """
    return _altered(recipe, "growing-dilation")


def gradient_clipping(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Shorten gradients to a norm measured from how fast the gradient turns along the way (see `clip_threshold`).

    Source: Zhang, He, Sra, Jadbabaie 2020.
    """
    threshold = clip_threshold(recipe, data).threshold
    if threshold == float("inf"):
        raise NoEffect("at this rate every step of a walk from the start is stable; no clipping is needed")
    largest = max((row.get("gradient_norm/max", float("inf")) for row in evidence.history), default=float("inf"))
    if largest <= threshold:
        raise NoEffect(
            f"no gradient exceeded {largest:.3g} and the measured threshold is {threshold:.3g}; no clipping is needed"
        )
    return recipe.replace(clip=threshold)


def learning_rate(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Take the rate that a short sweep of rising rates advises.

    Source: Smith 2017.
    """
    if not catalogue.load("objectives", recipe.objective or "").descends:
        raise NoEffect(
            f"got {recipe.objective}, whose loss tells nothing to find a rate by; choose slower-learning or faster-learning"
        )
    try:
        found = float(f"{find_learning_rate(recipe, data).learning_rate:.3g}")
    except Diverged as error:
        raise NoEffect(f"no usable rate: {error}") from error
    now = recipe.learning_rate
    if isinstance(now, (int, float)) and 0.5 * now < found < 2.0 * now:
        raise NoEffect(
            f"the finder advises {found:.3g}, within a factor two of the present {now:.3g}; choose another prescription"
        )
    return recipe.replace(learning_rate=found)


def standardise_data(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Scale the inputs to mean 0 and standard deviation 1 by the statistics of the training split.

    Source: LeCun, Bottou, Orr, Müller 1998, Efficient backprop, section 4.3.
    """
    return recipe.replace(scaling="standardise")


def _altered(recipe: Recipe, alteration: str) -> Recipe:
    return recipe.replace(alterations=(*recipe.alterations, alteration))

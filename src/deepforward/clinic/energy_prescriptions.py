"""Prescriptions for models that learn from their own samples; those of step, decay and length serve others as well."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from deepforward import catalogue
from deepforward.clinic.finding import Evidence
from deepforward.data import Dataset
from deepforward.engine import Recipe
from deepforward.errors import NoEffect

#: Weight decay between the 0.01 and 0.00001 of Hinton 2012, section 10, nearer to the upper end.
DECAY = 0.003

#: By how much rates and sweeps change: a step that is felt, in a quantity that is searched in decades.
_DECADE = 10

#: Share of the hidden units, and of the epochs, that is kept.
_KEPT = 0.25

#: Inverse temperatures, and the mean activity of a hidden unit (Hinton 2012, section 11: 0.01 to 0.1).
_TEMPERATURES, _ACTIVITY = 10, 0.1

#: Standard deviation of small first weights (Hinton 2012, section 8).
_SMALL = 0.01


#: What an option is that neither the recipe nor the signature of what it names has.
_ABSENT = inspect.Parameter.empty


def settled(name: str, recipe: Mapping[str, Any]) -> str:
    """Why a prescription of this module would change nothing, as far as the recipe alone tells it; "" if it might.

    An option that the recipe's objective or model does not have settles nothing: the prescription itself refuses then.
    """
    temperatures, target = (_option(recipe, "objective", option) for option in ("temperatures", "sparsity"))
    scale, decay = _option(recipe, "model", "weight_scale"), recipe.get("weight_decay") or 0.0
    schedule = recipe.get("schedule") or "constant"
    reasons = {
        "parallel-tempering": (
            temperatures is not _ABSENT and temperatures > 1,
            "the chains have several temperatures already",
        ),
        "centring": (_option(recipe, "objective", "centre") is True, "the gradient is centred already"),
        "sparsity-target": (target not in (_ABSENT, None), "the hidden units have a target of activity already"),
        "weight-decay": (decay >= DECAY, f"the weights decay at {decay:g} already"),
        "small-weights": (scale is not _ABSENT and scale <= _SMALL, f"the first weights are small already ({scale})"),
        "decaying-rate": (schedule != "constant", f"the rate decays already (schedule '{schedule}')"),
    }
    holds, reason = reasons.get(name, (False, ""))
    return reason if holds else ""


def slower_learning(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """A tenth of the learning rate: what to take where no loss tells a good one.

    Source: Hinton 2012, A practical guide to training restricted Boltzmann machines, section 7.
    """
    return recipe.replace(learning_rate=_rate(recipe) / _DECADE)


def faster_learning(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Ten times the learning rate, or the optimiser's own where it was 0.

    Source: Hinton 2012, A practical guide to training restricted Boltzmann machines, section 7.
    """
    if recipe.learning_rate == 0:
        return recipe.replace(learning_rate=catalogue.card("optimizers", recipe.optimizer or "").details["learning_rate"])
    return recipe.replace(learning_rate=_rate(recipe) * _DECADE)


def decaying_rate(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """A rate that falls to zero in a straight line, so that chains catch up with the weights.

    Source: Robbins and Monro 1951; Tieleman 2008.
    """
    return recipe.replace(schedule="linear", schedule_options={})


def weight_decay(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """A penalty on large weights, which keeps energies flat enough to mix, and models from memorising.

    Source: Hinton 2012, A practical guide to training restricted Boltzmann machines, section 10.
    """
    return recipe.replace(weight_decay=DECAY)


def fewer_epochs(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """A quarter of the epochs: to stop before what only the training examples share is learnt.

    Source: Prechelt 1998, Early stopping, but when?
    """
    epochs = math.ceil(_KEPT * (recipe.epochs or 1))
    if epochs == recipe.epochs:
        raise NoEffect(f"got {recipe.epochs} epoch, of which none can be left out; choose another prescription")
    return recipe.replace(epochs=epochs)


def fewer_hidden_units(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """A quarter of the hidden units, and with them of the weights.

    Source: Hinton 2012, A practical guide to training restricted Boltzmann machines, section 12.
    """
    hidden = _required(recipe, "hidden")
    if isinstance(hidden, bool) or not isinstance(hidden, int) or hidden < 2:
        raise NoEffect(f"got hidden={hidden!r} for {recipe.model}; expected a number of hidden units above 1; choose another")
    return recipe.replace(model_options={**recipe.model_options, "hidden": math.ceil(_KEPT * hidden)})


def small_weights(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """First weights of standard deviation 0.01, so that hidden units begin undecided and biases carry the rates.

    Source: Hinton 2012, A practical guide to training restricted Boltzmann machines, section 8.
    """
    _required(recipe, "weight_scale")
    return recipe.replace(model_options={**recipe.model_options, "weight_scale": _SMALL})


def parallel_tempering(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Persistent chains with copies at higher temperatures, which cross from mode to mode and swap places with them.

    Source: Desjardins, Courville, Bengio, Vincent, Delalleau 2010, Tempered Markov chain Monte Carlo for training of restricted
    Boltzmann machines.
    """
    return _with(recipe, persistent=True, temperatures=_TEMPERATURES)


def more_sweeps(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Ten times as many Gibbs sweeps between two steps.

    Source: Tieleman 2008; Fischer and Igel 2011, Bounding the bias of contrastive divergence learning (it falls with k).
    """
    steps = _option(asdict(recipe), "objective", "steps")
    return _with(recipe, steps=_DECADE if steps is _ABSENT else _DECADE * steps)


def centring(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """The gradient of the centred parametrisation, in which hidden biases are not pushed wherever the mean of the data lies.

    Source: Montavon and Müller 2012; Melchior, Fischer, Wiskott 2016.
    """
    return _with(recipe, centre=True)


def sparsity_target(recipe: Recipe, evidence: Evidence, data: Dataset) -> Recipe:
    """Each hidden unit is drawn towards being on for a tenth of the examples, away from never and always.

    Source: Lee, Ekanadham, Ng 2008; Hinton 2012, section 11.
    """
    return _with(recipe, sparsity=_ACTIVITY)


def _with(recipe: Recipe, **options: Any) -> Recipe:
    """Change options of the objective, if it has chains and therefore such options."""
    taken = inspect.signature(catalogue.load("objectives", recipe.objective or "")).parameters
    missing = [name for name in options if name not in taken]
    if missing:
        raise NoEffect(f"got {recipe.objective}, which has no chains and no option '{missing[0]}'; choose another prescription")
    return recipe.replace(objective_options={**recipe.objective_options, **options})


def _option(recipe: Mapping[str, Any], of: str, name: str) -> Any:
    """An option of the recipe's "objective" or "model", or its default, or `_ABSENT`; a stranger's defaults are not known."""
    chosen, owner = recipe.get(f"{of}_options") or {}, recipe.get(of) or ""
    if name in chosen:
        return chosen[name]
    if not owner or ":" in owner:
        return _ABSENT
    parameter = inspect.signature(catalogue.load(f"{of}s", owner)).parameters.get(name)
    return _ABSENT if parameter is None else parameter.default


def _required(recipe: Recipe, name: str) -> Any:
    """An option that the model must have."""
    if (value := _option(asdict(recipe), "model", name)) is _ABSENT:
        raise NoEffect(f"got {recipe.model}, which is known to have no option '{name}'; choose another prescription")
    return value


def _rate(recipe: Recipe) -> float:
    rate = recipe.learning_rate
    if isinstance(rate, str) or not rate:
        raise NoEffect(f"got a rate of {rate!r}; expected a number above 0 to scale; choose another prescription")
    return float(rate)

"""A Recipe: all that fixes a run, as plain values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deepforward import catalogue
from deepforward.data.dataset import Task
from deepforward.engine.recipe_checks import check_fields
from deepforward.errors import InvalidOption, RunMismatch, first_line

#: What a field that is None becomes where the model's card names nothing.
DEFAULTS: Mapping[str, Any] = {
    "objective": "cross-entropy",
    "scaling": "standardise",
    "validation": 0.1,
    "epochs": 10,
    "batch_size": 64,
    "optimizer": "sgd",
    "weight_decay": 0.0,
    "schedule": "one-cycle",
    "averaging": 0.0,
    "augmentation": (),
}

#: The objective that data of a task get where that of the model's card is for another.
USUAL: Mapping[Task, str] = {
    "classification": "cross-entropy",
    "regression": "squared-error",
    "segmentation": "pixel-cross-entropy",
    "image-regression": "squared-error",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Names and arguments that fix a training run; saved, compared, and changed with `replace`.

    A field that is None is filled by `complete` from the model's card, else from `DEFAULTS`. Two equal complete recipes give
    the same bits on the same machine.

    Attributes:
        model: Name of a card, or `file.py:factory`.
        model_options: Keyword arguments of the model's factory.
        alterations: Changes made to the built module, in order, each `name` or `name?key=value` (see `layers.alteration`); this
            is how a prescription reaches any module, a stranger's too.
        data: Source specification `family[:path][?key=value]`.
        augmentation: Changes of the training examples, drawn anew for each batch, in order, each `name` or `name?key=value`
            (see `data.augmentation`).
        scaling: `none`, `centre`, `standardise`, `min-max`, `softmax`; fitted on the training split only.
        validation: Share of the training split held out to choose by, in [0, 1). Test data never chooses anything.
        objective: Name of the training signal.
        objective_options: Its keyword arguments; if it is that of the model's card, the card's hold where none is given.
        epochs: Passes over the training split, at least 1.
        batch_size: Examples a step, at least 1.
        optimizer: Name of the optimiser.
        optimizer_options: Its keyword arguments besides rate and decay.
        learning_rate: Peak rate, or "find" to let the finder choose it before the run.
        weight_decay: L2 penalty (sgd, adam) or decoupled decay (adamw).
        schedule: `constant`, `cosine`, `linear`, `one-cycle`, `step`.
        schedule_options: See `engine.schedule`.
        clip: Threshold of the global gradient norm, or None for no clipping.
        averaging: Decay a step of a running mean of the weights, in [0, 1), which is then what is evaluated and kept as `best`
            (Polyak and Juditsky 1992), from the tenth step on; 0 is none. Buffers, such as the running statistics of batch
            normalisation, stay those of the weights themselves.
        patience: Epochs without a better validation loss before stopping, or None.
        pretraining: Trainings of the same model that come first, in order: each a mapping of the fields that differ from this
            recipe. None is what the model's card says, usually none. Each leaves its run in a folder of its own.
        precision: `auto`, `fp32`, `bf16`, `fp16`.
        channels_last: `auto`, `on`, `off`.
        compile: `auto`, `on`, `off`.
        fuse: `auto`, `on`, `off`: whether batch normalisation is computed together with the addition and ReLU behind it
            (`layers.fusion`), by a kernel that is built at first use; auto does it where that pays (`engine.device`).
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        threads: Threads of the arithmetic on a CPU; 0 is one for small networks, torch's own choice for others.
        probe_budget: Share of the step time that the always-on instruments may cost; 0 switches them off.
        seed: Fixes initialisation, order of the data and every other random draw.
        split_seed: Fixes which examples are held out for validation; None is `seed`. The stages of a training hold out those
            of the recipe whose stages they are, so that none trains on what chooses later.
    """

    model: str
    model_options: Mapping[str, Any] = field(default_factory=dict)
    alterations: tuple[str, ...] = ()
    data: str = "digits"
    augmentation: tuple[str, ...] | None = None
    scaling: str | None = None
    validation: float | None = None
    objective: str | None = None
    objective_options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    optimizer_options: Mapping[str, Any] | None = None
    learning_rate: float | str | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    schedule_options: Mapping[str, Any] = field(default_factory=dict)
    clip: float | None = None
    averaging: float | None = None
    patience: int | None = None
    pretraining: tuple[Mapping[str, Any], ...] | None = None
    precision: str = "auto"
    channels_last: str = "auto"
    compile: str = "auto"
    fuse: str = "auto"
    device: str = "auto"
    threads: int = 0
    probe_budget: float = 0.02
    seed: int = 0
    split_seed: int | None = None

    def __post_init__(self) -> None:
        for known in dataclasses.fields(self):
            if getattr(self, known.name) is None and known.default is not None:
                raise InvalidOption(f"{known.name} is None; expected a value, since nothing else fills it; leave it out")
        check_fields(vars(self))

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some fields changed.

        Raises:
            InvalidOption: A value is out of range, or there is no such field.
        """
        known = {f.name for f in dataclasses.fields(self)}
        for name in changes:
            if name not in known:
                raise InvalidOption(f"a recipe has no field '{name}'; it has {', '.join(sorted(known))}")
        return dataclasses.replace(self, **changes)

    def complete(self, task: Task = "classification") -> Recipe:
        """The same recipe with every open field filled: from the model's card, then the optimiser's, then `DEFAULTS`.

        Args:
            task: That of the data: where the card's objective is for another, the usual one is taken unless one is named.

        Raises:
            UnknownName: The model, objective or optimiser has no card.
        """
        own = {} if ":" in self.model else catalogue.card("models", self.model).details
        wanted = {**DEFAULTS, **own.get("recipe", {})}
        optimizer = catalogue.card("optimizers", self.optimizer or wanted["optimizer"])
        same = optimizer.name == wanted["optimizer"]  # the card's rate, decay and options fit only the card's optimiser
        if not same:
            wanted["weight_decay"] = DEFAULTS["weight_decay"]
        wanted["objective"] = own.get("objective", wanted["objective"])
        if not is_for(wanted["objective"], task):
            wanted["objective"] = USUAL[task]
        filled: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value  # cards know no tuples
            for name, value in wanted.items()
            if getattr(self, name) is None
        }
        if self.optimizer_options is None:
            card_options = own.get("recipe", {}).get("optimizer_options") if same else None
            usual = optimizer.details.get("recipe_options", {})
            filled["optimizer_options"] = usual if card_options is None else card_options
        if self.learning_rate is None:
            card_rate = wanted.get("learning_rate") if same else None
            filled["learning_rate"] = card_rate or optimizer.details["learning_rate"]
        if own.get("objective") == (self.objective or wanted["objective"]):  # options given here win, one by one
            filled["objective_options"] = {**wanted.get("objective_options", {}), **self.objective_options}
        complete = self.replace(**filled)
        catalogue.card("objectives", complete.objective or "")
        if complete.pretraining is None:
            stages = catalogue.load_target(own["pretraining"])(complete) if "pretraining" in own else ()
            complete = complete.replace(pretraining=tuple(stages))
        complete.stages()
        return complete

    def stages(self) -> tuple[Recipe, ...]:
        """The recipes of `pretraining`, in order: this one with the fields that each names.

        Raises:
            InvalidOption: A stage names what all stages share, an unknown field, or a value out of range.
            UnknownName: Its objective has no card.
        """
        found = []
        for number, changes in enumerate(self.pretraining or (), start=1):
            shared = sorted(_SHARED & set(changes))
            if shared:
                raise InvalidOption(
                    f"stage {number} of pretraining names {', '.join(shared)}; expected what stages may differ in"
                )
            own_seed = changes.get("seed", self.seed) != self.seed and self.split_seed is None
            stage = self.replace(pretraining=(), **{**({"split_seed": self.seed} if own_seed else {}), **changes})
            catalogue.card("objectives", stage.objective or "")
            found.append(stage)
        return tuple(found)

    def to_json(self) -> str:
        """The recipe as indented JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Inverse of `to_json`.

        Raises:
            RunMismatch: The text is not a recipe.
        """
        try:
            values = dict(json.loads(text))
            values["alterations"] = tuple(values.get("alterations", ()))
            for name in ("augmentation", "pretraining"):
                if values.get(name) is not None:
                    values[name] = tuple(values[name])
            return cls(**values)
        except (ValueError, TypeError) as error:
            raise RunMismatch(f"recipe.json cannot be read: {first_line(error)}; give another folder") from error

    def differences(self, other: Recipe) -> list[str]:
        """Names of the fields in which two recipes differ."""
        mine, theirs = json.loads(self.to_json()), json.loads(other.to_json())
        return [name for name in mine if mine[name] != theirs[name]]


def is_for(objective: str, task: Task) -> bool:
    """Whether an objective can learn from data of a task; those that look at no targets can from all.

    Raises:
        UnknownName: The objective has no card.
    """
    return task in catalogue.card("objectives", objective).details.get("tasks", (task,))


#: Fields that the stages of a training share.
_SHARED = {"model", "model_options", "alterations", "data", "scaling", "validation", "split_seed", "pretraining"}

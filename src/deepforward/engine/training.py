"""The one loop: recipe -> run folder."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepforward.data import Batch, Dataset, load
from deepforward.engine import checkpoint
from deepforward.engine.assembly import Parts, assemble
from deepforward.engine.device import choose_device, threads
from deepforward.engine.evaluation import evaluate
from deepforward.engine.finder import sweep
from deepforward.engine.progress import Display
from deepforward.engine.randomness import capture, draws, isolated, restore, restore_draws, stream
from deepforward.engine.recipe import Recipe
from deepforward.engine.run import Run, load_tensors, prepare_folder, versions
from deepforward.engine.schedule import rate
from deepforward.engine.step import Stepper
from deepforward.errors import Diverged
from deepforward.files import write_whole
from deepforward.instruments import Probe, Readings

#: Seconds between two checkpoints. It changes what a crash costs, never what a run computes.
_CHECKPOINT_SECONDS = 20.0
#: Steps between two looks at the gradient norm where no clipping measures it anyway, and at the loss on a device whose
#: numbers cost a synchronisation.
_NORM_STEPS, _DEVICE_STEPS = 10, 20


def fit(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    quiet: bool = False,
    data: Dataset | None = None,
    model: nn.Module | None = None,
) -> Run:
    """Train what the recipe names and keep everything in one folder.

    Args:
        recipe: What to train, on what, how; open fields are filled (`Recipe.complete`).
        out: Run folder; default `runs/MODEL-DATA-N`, N being the first free number.
        resume: Continue the run in `out` from its newest checkpoint (or begin it, if there is none); it gives the same bits
            as a run that was never interrupted. A finished run is returned as it is.
        quiet: Show no progress.
        data: Data to use instead of loading `recipe.data`.
        model: A built module to train in place instead of building `recipe.model`.

    Returns:
        The finished run.

    Raises:
        Diverged: The loss became NaN or infinite; `folder` of the error is the run folder, whose readings name the origin.
        RunMismatch: The folder holds another run, or this one and `resume` is False.
        CorruptCheckpoint: The checkpoint to resume from is damaged.
        WriteFailed: The disk is full; the last checkpoint is intact.
        DeepforwardError: Anything in the recipe that does not fit.
    """
    data = data or load(recipe.data)
    recipe = recipe.complete(regression=not data.classes)
    folder = Path(out) if out is not None else _free_folder(recipe)
    device = choose_device(recipe.device)
    with isolated(recipe.seed, device):
        parts = assemble(recipe, data, model)
        prepare_folder(folder, recipe, resume)
        run = Run(folder, recipe, data)
        if not run.result:
            with threads(parts.arithmetic.threads):
                Training(parts, run, quiet).run_through()
    return run


class Training:
    """A run in progress: the parts, where it stands, and how to save and continue it."""

    def __init__(self, parts: Parts, run: Run, quiet: bool) -> None:
        self.parts, self.run, self.quiet, self.recipe = parts, run, quiet, parts.recipe
        self.checkpoints = run.folder / "checkpoints"
        device = parts.arithmetic.device
        self.generators = {
            "order": stream(self.recipe.seed, "order"),
            "objective": stream(self.recipe.seed, "objective", device.type),
        }
        self.stepper = Stepper(parts, self.generators["objective"])
        self.probe: Probe | None = None
        self.earlier: Readings | None = None  # what was read before the run was interrupted
        self.batches = batches_per_epoch(len(parts.train), self.recipe.batch_size or 1)
        self.epochs = self.recipe.epochs or 1
        self.peak = self.recipe.learning_rate if isinstance(self.recipe.learning_rate, (int, float)) else 0.0
        self.epoch, self.position = 0, 0  # epochs finished, steps done in this one
        self.history: list[dict[str, Any]] = []
        self.sums: dict[str, Tensor] = {}
        self.seen = 0
        self.norms: list[float] = []
        self.best: dict[str, Tensor] = {}
        self.best_loss, self.stale = math.inf, 0
        self.seconds = 0.0
        self.order_start = self.generators["order"].get_state()

    def run_through(self) -> None:
        """Train to the end, from the newest checkpoint if there is one."""
        if checkpoint.exists(self.checkpoints, "newest"):
            self._restore()
        elif self.recipe.learning_rate == "find":
            self.peak = sweep(self.parts, self.recipe).learning_rate
        if self.recipe.probe_budget:
            self.probe = self.stepper.probe = Probe(
                self.parts.model,
                optimizer=list(self.parts.optimizers.values())[-1],
                budget=self.recipe.probe_budget,
                first_step=self._steps_done,
            )
        self.started = time.perf_counter() - self.seconds
        self.saved = time.perf_counter()
        title = f"{self.recipe.model} on {self.recipe.data}"
        total = self.epochs * self.batches
        with ExitStack() as stack:
            self.display = stack.enter_context(Display(title, total, self._steps_done, self.quiet))
            if self.probe is not None:
                stack.enter_context(self.probe)
            self.parts.model.train()
            while self.epoch < self.epochs and not self._exhausted:
                self._train_epoch()
        self._finish("stopped early" if self.epoch < self.epochs else "finished")

    @property
    def _steps_done(self) -> int:
        return self.epoch * self.batches + self.position

    @property
    def _exhausted(self) -> bool:
        return self.recipe.patience is not None and self.parts.validation is not None and self.stale >= self.recipe.patience

    def _train_epoch(self) -> None:
        begun, first = time.perf_counter(), self.seen
        for indices in self._remaining_batches():
            self._train_step(indices)
            if self.display.due:
                means = {name: float(value) / self.seen for name, value in self.sums.items()}
                self.display.show(self._steps_done, means, (self.seen - first) / (time.perf_counter() - begun))
            if time.perf_counter() - self.saved > _CHECKPOINT_SECONDS:
                self._save()
        speed = (self.seen - first) / (time.perf_counter() - begun)
        self._end_epoch({name: float(value) / self.seen for name, value in self.sums.items()}, speed)

    def _remaining_batches(self) -> Iterator[Tensor]:
        """Indices of the batches of this epoch that are still to come, in an order drawn anew each epoch."""
        self.order_start = self.generators["order"].get_state()
        order = torch.randperm(len(self.parts.train), generator=self.generators["order"])
        size = self.recipe.batch_size or 1
        for number in range(self.position, self.batches):
            yield order[number * size : (number + 1) * size]

    def _train_step(self, indices: Tensor) -> None:
        step = self._steps_done
        steps = self.epochs * self.batches
        self.stepper.set_rate(rate(self.recipe.schedule or "constant", self.recipe.schedule_options, self.peak, step, steps))
        batch = self.parts.batch(self.parts.train, indices)
        look = self.parts.arithmetic.device.type == "cpu" or step % _DEVICE_STEPS == 0
        before = draws(self.generators, self.parts.arithmetic.device) if look and self.probe is not None else None

        def finite(number: Tensor) -> None:
            if look and not math.isfinite(number.item()):
                self._diverge(step, number.item(), batch, before)

        log = self.stepper.step(batch, finite, measure=step % _NORM_STEPS == 0)
        norm = log.pop("gradient_norm", None)
        if norm is not None and look:
            self.norms.append(float(norm))
        size = len(indices)
        for name, value in log.items():
            self.sums[name] = self.sums[name] + value * size if name in self.sums else value.double() * size
        self.seen += size
        self.position += 1

    def _end_epoch(self, means: dict[str, float], speed: float) -> None:
        self.epoch, self.position = self.epoch + 1, 0
        row: dict[str, Any] = {"epoch": self.epoch, "step": self._steps_done}
        row |= {f"train/{name}": value for name, value in means.items()}
        if self.parts.validation is not None:
            row |= {f"validation/{name}": value for name, value in evaluate(self.parts, self.parts.validation).items()}
        row["learning_rate"] = next(iter(self.parts.optimizers.values())).param_groups[0]["lr"]
        if self.norms:
            row |= {"gradient_norm/median": statistics.median(self.norms), "gradient_norm/max": max(self.norms)}
        row |= {"examples_per_second": speed, "seconds": time.perf_counter() - self.started}
        self.sums, self.seen, self.norms = {}, 0, []
        self._record(row)
        self._keep_best(row)
        self.display.epoch(self.epoch, self.epochs, row)
        last = self.epoch == self.epochs or self._exhausted
        if last or time.perf_counter() - self.saved > _CHECKPOINT_SECONDS:
            self.order_start = self.generators["order"].get_state()
            self._save()

    def _record(self, row: dict[str, Any]) -> None:
        self.history.append({key: value if math.isfinite(value) else None for key, value in row.items()})
        lines = "".join(json.dumps(entry) + "\n" for entry in self.history)
        write_whole(self.run.folder / "history.jsonl", lines.encode())

    def _keep_best(self, row: dict[str, Any]) -> None:
        """Remember the weights of the lowest validation loss; without a validation split the newest are the best."""
        loss = row.get("validation/loss")
        if loss is not None and self.parts.objective.descends:
            if not loss < self.best_loss:
                self.stale += 1
                return
            self.best_loss, self.stale = loss, 0
        self.best = {name: value.detach().cpu().clone() for name, value in self._module_tensors().items()}

    def _module_tensors(self) -> dict[str, Tensor]:
        modules = {"model": self.parts.model, "objective": self.parts.objective, "scaling": self.parts.scaling}
        return {f"{part}/{name}": value for part, module in modules.items() for name, value in module.state_dict().items()}

    def _save(self) -> None:
        """Write the checkpoints: all that it takes to continue with the same bits."""
        tensors, plain = self._module_tensors(), {}
        for role, optimizer in self.parts.optimizers.items():
            state, values = checkpoint.flatten_optimizer(optimizer.state_dict())
            tensors |= {f"optimizer/{role}/{name}": value for name, value in state.items()}
            plain[role] = values
        random, other = capture(self.generators, self.parts.arithmetic.device)
        random["stream/order"] = self.order_start  # the order of this epoch is drawn again from where it was drawn
        tensors |= {f"random/{name}": value for name, value in random.items()}
        tensors |= {f"sums/{name}": value for name, value in self.sums.items()}
        seconds = time.perf_counter() - self.started
        state = {name: getattr(self, name) for name in _PROGRESS}
        best = {} if math.isinf(self.best_loss) else {"best_loss": self.best_loss}
        checkpoint.save(
            self.checkpoints,
            "newest",
            tensors,
            {
                "progress": state | best | {"seconds": seconds},
                "optimizers": plain,
                "random": other,
                "scaler": self.stepper.scaler.state_dict(),
                "history": self.history,
            },
        )
        if self.best:
            checkpoint.save(self.checkpoints, "best", self.best, {"progress": {"best_loss": best.get("best_loss")}})
        self._save_readings()
        self.saved = time.perf_counter()

    def _save_readings(self) -> None:
        if self.probe is not None:
            readings = self.probe.readings()
            whole = readings if self.earlier is None else self.earlier.followed_by(readings)
            write_whole(self.run.folder / "readings.json", whole.to_json().encode())

    def _restore(self) -> None:
        tensors, plain = checkpoint.load(self.checkpoints, "newest")
        load_tensors(self.parts, tensors)
        for role, optimizer in self.parts.optimizers.items():
            checkpoint.restore_optimizer(optimizer, _below(tensors, f"optimizer/{role}/"), plain["optimizers"][role])
        restore(_below(tensors, "random/"), plain["random"], self.generators, self.parts.arithmetic.device)
        self.sums = {name: value.to(self.parts.arithmetic.device) for name, value in _below(tensors, "sums/").items()}
        self.stepper.scaler.load_state_dict(plain["scaler"])
        for name, value in plain["progress"].items():
            setattr(self, name, value)
        self.history = plain["history"]
        self.earlier = self.run.readings
        if checkpoint.exists(self.checkpoints, "best"):
            self.best = checkpoint.load(self.checkpoints, "best")[0]

    def _diverge(self, step: int, number: float, batch: Batch, before: dict[str, Tensor] | None) -> None:
        """Find where the first number that is not finite arises, keep the evidence, and raise."""
        place = ""
        if self.probe is not None and before is not None:
            restore_draws(before, self.generators, self.parts.arithmetic.device)
            origin = self.probe.locate(lambda: self._first_loss(batch))
            if origin is not None:
                place = f"; it arose in the {origin['place']} of layer '{origin['layer']}' ({origin['kind']})"
        row = {"epoch": self.epoch + 1, "step": step, "train/loss": number}
        if self.norms:
            row |= {"gradient_norm/median": statistics.median(self.norms), "gradient_norm/max": max(self.norms)}
        self._record(row)
        self._finish("diverged", evaluate_test=False)
        error = Diverged(
            f"loss or gradient became {number} at step {step} (epoch {self.epoch + 1}){place}; lower the learning rate or run "
            f"`deepforward diagnose {self.run.folder}`"
        )
        error.folder = self.run.folder
        raise error

    def _first_loss(self, batch: Batch) -> Tensor:
        with self.parts.arithmetic.autocast():
            return next(iter(self.parts.objective.signals(self.parts.model, batch, self.generators["objective"]))).loss

    def _finish(self, status: str, evaluate_test: bool = True) -> None:
        """Write readings and result; test data is looked at once, here, with the best weights."""
        self._save_readings()
        row: dict[str, Any] = next((r for r in reversed(self.history) if r.get("epoch") == self.epoch), {})
        metrics = {name: value for name, value in row.items() if "/" in name and not name.startswith("gradient")}
        if evaluate_test:
            if self.best:
                load_tensors(self.parts, self.best)
            metrics |= {f"test/{name}": value for name, value in evaluate(self.parts, self.parts.data.test).items()}
        arithmetic = self.parts.arithmetic
        self.run.update_result(
            status=status,
            epochs=self.epoch,
            metrics={name: value if value is not None and math.isfinite(value) else None for name, value in metrics.items()},
            findings=[],
            seconds=time.perf_counter() - self.started,
            learning_rate=self.peak,
            parameters=sum(p.numel() for p in self.parts.model.parameters()),
            arithmetic={
                "device": str(arithmetic.device),
                "precision": arithmetic.precision,
                "channels_last": arithmetic.channels_last,
                "compile": arithmetic.compile,
                "threads": arithmetic.threads,
            },
            versions=versions(),
        )


#: Plain attributes of Training that a checkpoint holds.
_PROGRESS = ("epoch", "position", "seen", "norms", "stale", "peak")


def batches_per_epoch(examples: int, batch_size: int) -> int:
    """Number of batches; a last batch of a single example is left out, since batch normalisation has no variance there."""
    full, rest = divmod(examples, batch_size)
    return max(1, full + (rest > (1 if batch_size > 1 else 0)))


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _free_folder(recipe: Recipe) -> Path:
    stem = "".join(c if c.isalnum() else "-" for c in f"{Path(recipe.model.partition(':')[0]).stem}-{recipe.data}").strip("-")
    number = 1
    while Path("runs", f"{stem}-{number}").exists():
        number += 1
    return Path("runs", f"{stem}-{number}")

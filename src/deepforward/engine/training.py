"""The one loop: parts of a run -> its folder filled."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any

from torch import Tensor

from deepforward.data import Batch
from deepforward.engine import averaging, checkpoint, snapshots
from deepforward.engine.assembly import Parts
from deepforward.engine.batches import batches_per_epoch, draw_batches
from deepforward.engine.evaluation import conclusion, evaluate, observation
from deepforward.engine.event_files import EventFiles
from deepforward.engine.finder import sweep
from deepforward.engine.outlets import Outlets, Pace
from deepforward.engine.progress import Display
from deepforward.engine.randomness import draws, restore_draws, stream
from deepforward.engine.run import Run, load_tensors, versions
from deepforward.engine.schedule import rate
from deepforward.engine.standing import Standing, module_tensors
from deepforward.engine.standing import load as load_standing
from deepforward.engine.standing import save as save_standing
from deepforward.engine.step import Stepper
from deepforward.errors import DeepforwardError, Diverged, InvalidModel, first_line
from deepforward.files import write_whole
from deepforward.instruments import Probe, Readings

#: Seconds between two checkpoints. It changes what a crash costs, never what a run computes.
_CHECKPOINT_SECONDS = 20.0
#: Steps between two looks at the gradient norm where no clipping measures it anyway, and at the loss on a device whose
#: numbers cost a synchronisation.
_NORM_STEPS, _DEVICE_STEPS = 10, 20
#: Seconds between two writings of the readings where somebody may look at them meanwhile, and what they may take of the time.
_LOOK_SECONDS, _LOOK_SHARE = 2.0, 0.01


class Training:
    """A run in progress."""

    def __init__(self, parts: Parts, run: Run, outlets: Outlets) -> None:
        self.parts, self.run, self.outlets, self.recipe = parts, run, outlets, parts.recipe
        self.checkpoints = run.folder / "checkpoints"
        self.batches = batches_per_epoch(len(parts.train), self.recipe.batch_size or 1)
        self.epochs = self.recipe.epochs or 1
        self.generators = {
            "order": stream(self.recipe.seed, "order"),
            "objective": stream(self.recipe.seed, "objective", parts.arithmetic.device.type),
        }
        if parts.augmentation:
            self.generators["augmentation"] = stream(self.recipe.seed, "augmentation", parts.arithmetic.device.type)
        self.order_start = self.generators["order"].get_state()
        self.stepper = Stepper(parts, self.generators["objective"])
        self.earlier: Readings | None = None  # what was read before the run was interrupted
        self.standing = self._begin()
        self.probe = self._look()
        self.looked_at = Pace(_LOOK_SECONDS, _LOOK_SHARE) if outlets.watch or outlets.tensorboard else None
        self.events: EventFiles | None = None
        self.started = time.perf_counter() - self.standing.seconds
        self.saved = time.perf_counter()

    def _begin(self) -> Standing:
        if checkpoint.exists(self.checkpoints, "newest"):
            self.earlier = self.run.readings
            return load_standing(self.checkpoints, self.parts, self.stepper, self.generators)
        if self.recipe.learning_rate == "find":
            return Standing(sweep(self.parts, self.recipe).learning_rate)
        return Standing(float(self.recipe.learning_rate or 0.0))

    def _look(self) -> Probe | None:
        if not self.recipe.probe_budget:
            return None
        last = list(self.parts.optimizers.values())[-1]
        # A compiled model ignores hooks: the probe is given it as such, so that it says what it cannot see.
        model = self.parts.forward if self.parts.arithmetic.compile else self.parts.model
        budget = self.recipe.probe_budget
        self.stepper.probe = Probe(model, optimizer=last, budget=budget, first_step=self.step)
        return self.stepper.probe

    @property
    def step(self) -> int:
        """Steps done since the start of the run."""
        return self.standing.epoch * self.batches + self.standing.position

    def run_through(self) -> None:
        """Train from where the run stands to its end."""
        with ExitStack() as stack:
            if self.outlets.tensorboard:
                self.events = stack.enter_context(closing(EventFiles(self.run.folder / "tensorboard")))
                self.events.history(self.standing.history)
            self._train()
            if self.standing.best:
                load_tensors(self.parts, self.standing.best)
            test = {f"test/{name}": value for name, value in evaluate(self.parts, self.parts.data.test).items()}
            status = "stopped early" if self.standing.epoch < self.epochs else "finished"
            self._finish(status, test | conclusion(self.parts, self.display.say))

    def _train(self) -> None:
        with ExitStack() as stack:
            title = f"{self.recipe.model} on {self.recipe.data}"
            self.display = stack.enter_context(Display(title, self.epochs * self.batches, self.step, self.outlets.quiet))
            if self.probe is not None:
                stack.enter_context(self.probe)
            self.parts.model.train()
            while self.standing.epoch < self.epochs and not self._exhausted:
                self._train_epoch()

    @property
    def _exhausted(self) -> bool:
        return (
            self.recipe.patience is not None
            and self.standing.best_loss is not None
            and self.standing.stale >= self.recipe.patience
        )

    @property
    def _due(self) -> bool:
        """Whether the last checkpoint is so old that a crash would cost too much."""
        return time.perf_counter() - self.saved > _CHECKPOINT_SECONDS

    def _train_epoch(self) -> None:
        begun, first = time.perf_counter(), self.standing.seen
        speed = 0.0
        for indices in self._remaining_batches():
            self._train_step(indices)
            speed = (self.standing.seen - first) / (time.perf_counter() - begun)
            if self.display.due:
                tells = self.parts.objective.descends  # the value of other losses means nothing
                self.display.show(self.step, self.standing.means() if tells else {}, speed)
            if self._due:
                self._save()
            elif self.looked_at is not None and self.looked_at.due:
                self._write_readings()
        with averaging.averaged(self.parts.model, self.standing.averages):
            self._end_epoch(speed)
        if self.standing.epoch == self.epochs or self._exhausted or self._due:
            self._save()

    def _remaining_batches(self) -> Iterator[Tensor]:
        """Indices of the batches of this epoch that are still to come, in an order drawn anew each epoch."""
        self.order_start = self.generators["order"].get_state()
        batches = draw_batches(len(self.parts.train), self.recipe.batch_size or 1, self.generators["order"])
        device = self.parts.train.inputs.device
        yield from (indices.to(device) for indices in batches[self.standing.position :])

    def _train_step(self, indices: Tensor) -> None:
        recipe, standing, step, device = self.recipe, self.standing, self.step, self.parts.arithmetic.device
        steps = self.epochs * self.batches
        self.stepper.set_rate(rate(recipe.schedule or "constant", recipe.schedule_options, standing.peak, step, steps))
        batch = self.parts.batch(self.parts.train, indices)
        if self.parts.augmentation:
            batch = self.parts.augmentation(batch, self.generators["augmentation"])
        look = device.type == "cpu" or step % _DEVICE_STEPS == 0
        before = draws(self.generators, device) if look and self.probe is not None else None

        def finite(number: Tensor) -> None:
            if look and not math.isfinite(number.item()):
                self._diverge(number.item(), batch, before)

        try:
            log = self.stepper.step(batch, finite, measure=step % _NORM_STEPS == 0)
        except DeepforwardError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {first_line(error)}"
            raise InvalidModel(f"training step {step} of '{recipe.model}' raised {said}; mend it") from error
        norm = log.pop("gradient_norm", None)
        if norm is not None and look:
            standing.norms.append(float(norm))
        for name, value in log.items():
            standing.sums[name] = standing.sums.get(name, 0.0) + value.double() * len(indices)
        standing.seen += len(indices)
        standing.position += 1
        if recipe.averaging and self.step % averaging.EVERY == 0:
            averaging.update(standing.averages, self.parts.model, recipe.averaging, self.step)

    def _end_epoch(self, speed: float) -> None:
        row = self._row(self.standing.means())
        if self.parts.validation is not None:
            row |= {f"validation/{name}": value for name, value in evaluate(self.parts, self.parts.validation).items()}
        row |= observation(self.parts)
        row |= {"examples_per_second": speed, "seconds": time.perf_counter() - self.started}
        self.standing.end_epoch(row)
        self._keep_best(row.get("validation/loss"))
        if self.events is not None:
            self.events.history(self.standing.history[-1:])
        if not self.outlets.throwaway:
            self._write_history()
            snapshots.keep(self.run.folder, self.parts, self.standing.epoch, self.epochs)
        self.display.epoch(self.standing.epoch, self.epochs, row, self.parts.objective.descends)
        self.order_start = self.generators["order"].get_state()

    def _row(self, train: dict[str, float]) -> dict[str, Any]:
        row: dict[str, Any] = {"epoch": self.standing.epoch + 1, "step": self.step}
        row |= {f"train/{name}": value for name, value in train.items()}
        row["learning_rate"] = next(iter(self.parts.optimizers.values())).param_groups[0]["lr"]
        if self.standing.norms:
            norms = self.standing.norms
            row |= {"gradient_norm/median": statistics.median(norms), "gradient_norm/max": max(norms)}
        return row

    def _keep_best(self, loss: float | None) -> None:
        """Remember the weights of the lowest validation loss; without a validation split the newest are the best."""
        if loss is not None and self.parts.objective.descends:
            if self.standing.best_loss is not None and not loss < self.standing.best_loss:
                self.standing.stale += 1
                return
            self.standing.best_loss, self.standing.stale = loss, 0
        self.standing.best = {name: value.detach().cpu().clone() for name, value in module_tensors(self.parts).items()}

    def _save(self) -> None:
        self.standing.seconds = time.perf_counter() - self.started
        save_standing(
            self.checkpoints, self.standing, self.parts, self.stepper, generators=self.generators, order_start=self.order_start
        )
        self._write_readings()
        self.saved = time.perf_counter()

    def _write_history(self) -> None:
        lines = "".join(json.dumps(entry) + "\n" for entry in self.standing.history)
        write_whole(self.run.folder / "history.jsonl", lines.encode())

    def _write_readings(self) -> None:
        if self.probe is None:
            return
        begun, readings = time.perf_counter(), self.probe.readings()
        whole = readings if self.earlier is None else self.earlier.followed_by(readings)
        write_whole(self.run.folder / "readings.json", whole.to_json().encode())
        if self.events is not None:
            self.events.readings(whole)
        if self.looked_at is not None:
            self.looked_at.done(time.perf_counter() - begun)

    def _diverge(self, number: float, batch: Batch, before: dict[str, Tensor] | None) -> None:
        """Find where the first number that is not finite arises, keep the evidence, and raise."""
        step, epoch, place = self.step, self.standing.epoch + 1, ""
        if self.probe is not None and before is not None:
            restore_draws(before, self.generators, self.parts.arithmetic.device)
            origin = self.probe.locate(lambda: self._first_loss(batch))
            if origin is not None:
                kind = origin["kind"]
                place = (
                    f"; it arose in the {origin['place']} of layer '{origin['layer']}' ({kind})"
                    if kind
                    else "; it arose in the loss"
                )
        self.standing.end_epoch(self._row({"loss": number}))
        if self.events is not None:
            self.events.history(self.standing.history[-1:])
        if not self.outlets.throwaway:
            self._write_history()
        advice = "lower the learning rate or run" if step else "no step had been taken yet: run"
        advice += f" `deepforward diagnose {self.run.folder}`"
        error = f"loss or gradient became {number} at step {step} (epoch {epoch}){place}; {advice}"
        self._finish("diverged", {}, error=error)
        raise Diverged(error, self.run.folder)

    def _first_loss(self, batch: Batch) -> Tensor:
        with self.parts.arithmetic.autocast():
            return next(iter(self.parts.objective.signals(self.parts.model, batch, self.generators["objective"]))).loss

    def _finish(self, status: str, final: Mapping[str, float], **more: Any) -> None:
        """Write readings and result. All metrics are of the best epoch; test data is looked at once, with its weights."""
        self._write_readings()
        if self.outlets.throwaway:
            self._write_history()
        history, lowest = self.standing.history, self.standing.best_loss
        best = next((row for row in history if lowest is not None and row.get("validation/loss") == lowest), history[-1])
        metrics = {name: value for name, value in best.items() if name.startswith(("train/", "validation/"))}
        metrics |= {name: value if math.isfinite(value) else None for name, value in final.items()}
        if self.events is not None:
            self.events.history([{"step": self.step, **final}])
        arithmetic = dataclasses.asdict(self.parts.arithmetic) | {"device": str(self.parts.arithmetic.device)}
        self.run.update_result(
            status=status,
            epochs=self.standing.epoch,
            best_epoch=best["epoch"],
            metrics=metrics,
            seconds=time.perf_counter() - self.started,
            learning_rate=self.standing.peak,
            parameters=sum(p.numel() for p in self.parts.model.parameters()),
            arithmetic=arithmetic,
            versions=versions(),
            **more,
        )

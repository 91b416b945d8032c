"""Reads one step: hooks on, numbers taken, hooks off."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from torch import nn

from deepforward.instruments.dead_units import DeadUnits
from deepforward.instruments.gradient_flow import GradientFlow
from deepforward.instruments.gradient_norms import GradientNorms
from deepforward.instruments.instrument import Instrument
from deepforward.instruments.layer_hooks import LayerHooks, kind_of, layers_of, own_parameters
from deepforward.instruments.non_finite import NonFinite
from deepforward.instruments.parameter_watch import ParameterWatch
from deepforward.instruments.readings import Readings
from deepforward.instruments.record import Record
from deepforward.instruments.sample import Sample
from deepforward.instruments.saturation import Saturation
from deepforward.instruments.wrappers import has_compiled, unwrapped


class Sampler:
    """Samples single steps of a model when told to, and keeps what it read.

    Attributes:
        sample: The step being sampled, or None.
        origins: Where non-finite numbers arose.
    """

    def __init__(
        self,
        model: nn.Module,
        instruments: Sequence[Instrument],
        updated: Collection[nn.Parameter],
        rows: int | None,
        capacity: int,
    ) -> None:
        self.sample: Sample | None = None
        self.origins: list[Mapping[str, object]] = []
        self._instruments = instruments or (GradientFlow(), DeadUnits(), Saturation(), NonFinite())
        model = unwrapped(model)
        self._layers = layers_of(model)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        statistics = frozenset[str]().union(*(instrument.of_parameters for instrument in self._instruments))
        self._watch = ParameterWatch(parameters, updated, statistics)
        index = {id(parameter): position for position, parameter in enumerate(parameters)}
        self._own = {
            name: [index[id(parameter)] for parameter in own_parameters(module) if parameter.requires_grad]
            for name, module in self._layers.items()
        }
        self._hooks = LayerHooks(model, self._layers, self._instruments, rows)
        self._record = Record(capacity)
        self._unread: Sample | None = None
        self._thinned = False

    @property
    def is_blind(self) -> bool:
        """Whether layers of torch received gradients in the step, none was seen to be called, and something is compiled."""
        if self.sample is None or self.sample.order or not has_compiled():
            return False
        received = self.sample.parameters_with("gradient")
        # Models that do not call their layers (an energy with a gradient written by hand) are not taken for compiled.
        called = {
            name
            for name, module in self._layers.items()
            if type(module).__module__.startswith("torch.nn") and type(module).forward is not nn.Module.forward
        }
        return any(received.intersection(self._own[name]) for name in called)

    def open(self, step: int, *, hooks: bool = True, in_forward: bool = False) -> None:
        """Begin to sample a step.

        Args:
            step: Number of the step.
            hooks: Whether to look at layers, or only at parameters.
            in_forward: Whether the model's forward pass has just begun, for want of an optimizer that tells steps apart; the
                parameters are then followed from here to `close`.
        """
        self.sample = Sample(step)
        if hooks:
            self._hooks.install(self.sample, in_forward=in_forward)
        if in_forward:
            self._watch.before_update(self.sample)
            self._watch.follow_gradients(self.sample)

    def before_update(self) -> None:
        """Take the gradients, and the parameters before they move."""
        if self.sample is not None:
            self._watch.take_gradients(self.sample)
            self._watch.before_update(self.sample)

    def observe_gradients(self, norms: GradientNorms) -> None:
        """Take gradient norms that were computed elsewhere."""
        if self.sample is not None:
            self._watch.take_gradients(self.sample, norms)

    def close(self) -> bool:
        """End the sampled step; tells whether the record was thinned to make room."""
        if self.sample is None:
            return False
        self._watch.after_update(self.sample)
        sample = self.sample
        self.abandon()
        sample.close()
        # The numbers of this step are still under way on an accelerator; those of the sample before have long arrived.
        self._read()
        self._unread = sample if sample else None
        thinned, self._thinned = self._thinned, False
        return thinned

    def abandon(self) -> None:
        """Take all hooks off and forget the step."""
        if self.sample is not None:
            self.sample.open = False
        self.sample = None
        self._hooks.remove()
        self._watch.forget()

    def readings(self) -> Readings:
        """All that was sampled and kept."""
        self._read()
        kinds = {name: kind_of(module) for name, module in self._layers.items()}
        return self._record.readings(kinds, tuple(self.origins))

    def kind(self, key: str) -> str:
        """Kind of the module behind a layer key, "" if it is no layer."""
        module = self._layers.get(key.rpartition("#")[0])
        return "" if module is None else kind_of(module)

    def _read(self) -> None:
        sample, self._unread = self._unread, None
        if sample is None:
            return
        layers = self._by_layer(sample)
        for instrument in self._instruments:
            origin = None if self.origins else instrument.origin(layers)
            if origin is not None:
                self.origins.append({"step": sample.step, "kind": self.kind(str(origin["layer"])), **origin})
        self._thinned |= self._record.add(sample.step, layers)

    def _by_layer(self, sample: Sample) -> dict[str, dict[str, float]]:
        of_layers, of_parameters = sample.read()
        layers: dict[str, dict[str, float]] = {key: {} for key in sample.order}
        for (statistic, key), number in of_layers.items():
            layers[key][statistic] = number
        for name, indices in self._own.items():
            key, numbers = f"{name}#0", self._of_parameters(indices, of_parameters)
            # A layer that was used without being called (functionally) shows by its gradient; one that was not used does not.
            if key in layers or "parameter_gradient_norm" in numbers:
                layers.setdefault(key, {}).update(numbers)
        # NaN is kept for what was not measured.
        return {
            key: {statistic: number if math.isfinite(number) else math.inf for statistic, number in numbers.items()}
            for key, numbers in layers.items()
            if numbers
        }

    def _of_parameters(self, indices: Sequence[int], numbers: Mapping[tuple[str, int], float]) -> dict[str, float]:
        gradient, value, update = (_square(statistic, indices, numbers) for statistic in ("gradient", "value", "update"))
        merged = {}
        if gradient is not None:
            merged["parameter_gradient_norm"] = math.sqrt(gradient)
        if value is not None:
            size = sum(self._watch.sizes[index] for index in indices if ("value", index) in numbers)
            merged["parameter_rms"] = math.sqrt(value / max(size, 1))
            if update is not None and value > 0:
                merged["update_ratio"] = math.sqrt(update / value)
        return merged


def _square(statistic: str, indices: Sequence[int], numbers: Mapping[tuple[str, int], float]) -> float | None:
    found = [numbers[statistic, index] ** 2 for index in indices if (statistic, index) in numbers]
    return sum(found) if found else None

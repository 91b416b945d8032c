"""Parameters before and after a step, and their gradients in between."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from deepforward.instruments.gradient_norms import GradientNorms, gradient_norms
from deepforward.instruments.instrument import Scalar, as_real, norm_dtype
from deepforward.instruments.sample import Sample

#: Elements of each parameter on which its update is measured: a copy of a large model would cost as much memory as the model.
SLICE = 16_384


class ParameterWatch:
    """Takes, for each parameter, the norms of its gradient, of its value and of its update into a sample."""

    def __init__(
        self, parameters: Sequence[nn.Parameter], updated: Collection[nn.Parameter], statistics: Collection[str]
    ) -> None:
        """Watch the gradients of `parameters` and the updates of those that are also in `updated`."""
        self.parameters = parameters
        self.sizes = [_rows(parameter).numel() for parameter in parameters]
        self._index = {id(parameter): index for index, parameter in enumerate(parameters)}
        self._updated = [parameter for parameter in updated if id(parameter) in self._index]
        self._statistics = statistics
        self._before: list[Tensor] = []
        self._handles: list[RemovableHandle] = []

    def take_gradients(self, sample: Sample, norms: GradientNorms | None = None) -> None:
        """Take `norms`, or compute them; what was taken first in a step stays (clipping changes gradients later)."""
        if "parameter_gradient_norm" not in self._statistics or sample.parameters_with("gradient"):
            return
        norms = norms or gradient_norms(self.parameters, precise=True)
        for parameter, norm in zip(norms.parameters, norms.each, strict=True):
            if (index := self._index.get(id(parameter))) is not None:
                sample.put_parameter("gradient", index, Scalar(norm))

    def follow_gradients(self, sample: Sample) -> None:
        """Take the gradients as soon as each is complete, for a loop whose optimizer is not known."""
        if "parameter_gradient_norm" not in self._statistics:
            return

        def take(parameter: Tensor) -> None:
            if sample.open and parameter.grad is not None:
                norm = torch.linalg.vector_norm(as_real(parameter.grad), dtype=norm_dtype(parameter))
                sample.put_parameter("gradient", self._index[id(parameter)], Scalar(norm))

        for parameter in filter(lambda parameter: parameter.requires_grad, self.parameters):
            self._handles.append(parameter.register_post_accumulate_grad_hook(take))

    def before_update(self, sample: Sample) -> None:
        """Keep the first rows of each parameter, and take their norms."""
        if "update_ratio" not in self._statistics or not self._updated:
            return
        slices = [_rows(parameter) for parameter in self._updated]
        self._put_norms("value", slices, sample)
        self._before = [rows.clone() for rows in slices]

    def after_update(self, sample: Sample) -> None:
        """Take the norm of what the step has changed, and forget what was kept."""
        if self._before:
            torch._foreach_sub_(self._before, [_rows(parameter) for parameter in self._updated])
            self._put_norms("update", self._before, sample)
        self.forget()

    def forget(self) -> None:
        """Drop what was kept and all hooks."""
        self._before = []
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _put_norms(self, statistic: str, slices: list[Tensor], sample: Sample) -> None:
        norms = torch._foreach_norm(slices, 2, torch.promote_types(slices[0].dtype, torch.float32))
        for parameter, norm in zip(self._updated, norms, strict=True):
            sample.put_parameter(statistic, self._index[id(parameter)], Scalar(norm))


def _rows(parameter: nn.Parameter) -> Tensor:
    rows = as_real(parameter.detach())
    if rows.dim() == 0:
        return rows
    return rows[: max(1, SLICE // max(1, rows[0].numel()))] if len(rows) else rows

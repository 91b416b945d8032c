"""What batch normalisation does: statistics of batches against running and population ones, and the loss with each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from deepforward.errors import InvalidData, InvalidModel
from deepforward.instruments.examination import Examination
from deepforward.instruments.left_as_found import left_as_found

_NORMALIZATION = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_BatchNorm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Statistics:
    """One batch normalisation; root mean squares over its channels, in standard deviations of the running statistics.

    Attributes:
        name: Name of the module.
        batch_offset: How far the means of batches lie from the running mean.
        population_offset: How far the population mean of Algorithm 2 lies from the running mean.
        batch_log_ratio: How far standard deviations of batches are from the running one, as a natural logarithm of the ratio.
        population_log_ratio: The same of the population standard deviation of Algorithm 2.
    """

    name: str
    batch_offset: float
    population_offset: float
    batch_log_ratio: float
    population_log_ratio: float


@dataclass(frozen=True)
class NormalizationEffect:
    """What batch normalisation does.

    Attributes:
        layers: One entry for each batch normalisation, in the order of the module tree.
        train_loss: Mean loss with the statistics of each batch.
        eval_loss: Mean loss with the running statistics.
        population_loss: Mean loss with the population statistics of Algorithm 2; where it is far below `eval_loss`, the running
            statistics are stale.
    """

    layers: tuple[Statistics, ...]
    train_loss: float
    eval_loss: float
    population_loss: float


@dataclass
class _Moments:
    """Mean and biased variance of every batch that passed a module, (channels,) each, and values a channel in each."""

    means: list[Tensor] = field(default_factory=list)
    variances: list[Tensor] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def population(self) -> tuple[Tensor, Tensor]:
        """Algorithm 2: E[x] = E[mu_B], Var[x] = m / (m - 1) E[sigma_B^2], m being the values a channel in a batch."""
        unbiased = [variance * (m / (m - 1)) for variance, m in zip(self.variances, self.counts, strict=True)]
        return torch.stack(self.means).mean(0), torch.stack(unbiased).mean(0)


class BatchNormEffect(Examination[NormalizationEffect]):
    """Runs the batches three times without gradients, one training step in all: by batch, running and population statistics.

    Only the batch normalisations change their mode, so that dropout and the like, which stay in the mode they are in, do not
    enter; random draws are the same in all three. Modules without running statistics are left alone.

    Source: Ioffe and Szegedy 2015, Batch normalization, algorithm 2.
    """

    def _measure(
        self, model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor]
    ) -> NormalizationEffect:
        """Measure on all batches.

        Raises:
            InvalidModel: No batch normalisation has running statistics and sees the batches.
            InvalidData: A batch has one value a channel, which has no variance.
        """
        modules = {
            name or type(module).__name__: module
            for name, module in model.named_modules()
            if isinstance(module, _NORMALIZATION) and module.running_mean is not None
        }
        running = {name: _running(module) for name, module in modules.items()}
        with left_as_found(model), torch.no_grad():
            draws = torch.get_rng_state()

            def mean_loss(training: bool) -> float:
                torch.set_rng_state(draws)
                for module in modules.values():
                    module.training = training
                return fmean(float(loss(model, batch)) for batch in batches)

            with _watched(modules) as moments:
                train_loss = mean_loss(True)
            seen = {name: found for name, found in moments.items() if found.means}
            if not seen:
                raise InvalidModel(
                    "got a model in which no batch normalisation with running statistics is used; nothing to see"
                )
            for name, module in modules.items():
                _set(module, *running[name])
            eval_loss = mean_loss(False)
            for name, found in seen.items():
                _set(modules[name], *found.population())
            population_loss = mean_loss(False)
        layers = tuple(_statistics(name, found, *running[name], modules[name].eps) for name, found in seen.items())
        return NormalizationEffect(layers, train_loss, eval_loss, population_loss)


@contextmanager
def _watched(modules: Mapping[str, _BatchNorm]) -> Iterator[dict[str, _Moments]]:
    """Collects the moments of what the modules are given."""
    moments = {name: _Moments() for name in modules}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def take(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].detach().double().transpose(0, 1).flatten(1)
            if values.shape[1] < 2:
                raise InvalidData(
                    f"'{name}' got one value a channel, which has no variance; give batches of 2 examples or more"
                )
            moments[name].means.append(values.mean(1))
            moments[name].variances.append(values.var(1, correction=0))
            moments[name].counts.append(values.shape[1])

        return take

    handles = [module.register_forward_pre_hook(watch(name)) for name, module in modules.items()]
    try:
        yield moments
    finally:
        for handle in handles:
            handle.remove()


def _running(module: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert module.running_mean is not None and module.running_var is not None
    return module.running_mean.double().clone(), module.running_var.double().clone()


def _set(module: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    assert module.running_mean is not None and module.running_var is not None
    module.running_mean.copy_(mean)
    module.running_var.copy_(variance)


def _statistics(name: str, found: _Moments, mean: Tensor, variance: Tensor, eps: float) -> Statistics:
    scale = (variance + eps).sqrt()

    def offset(means: Tensor) -> float:
        return float(((means - mean) / scale).square().mean().sqrt())

    def log_ratio(variances: Tensor) -> float:
        return float((0.5 * ((variances + eps).log() - 2 * scale.log())).square().mean().sqrt())

    population_mean, population_variance = found.population()
    return Statistics(
        name,
        batch_offset=offset(torch.stack(found.means)),
        population_offset=offset(population_mean),
        batch_log_ratio=log_ratio(torch.stack(found.variances)),
        population_log_ratio=log_ratio(population_variance),
    )

"""Singular values of a network's Jacobian from input to output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from deepforward.errors import InvalidModel, InvalidOption, UnknownName
from deepforward.instruments.examination import Examination
from deepforward.instruments.jacobian_products import JacobianProducts
from deepforward.instruments.layer_hooks import first_tensor
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.model_call import ModelCall, call_of, refusing, watching_ends
from deepforward.instruments.spectral_estimates import Moments, estimated_moments, exact_moments, largest_singular_value

#: What is differentiated: the output of the second module by the input of the first.
Stretch = tuple[str, str]

#: All singular values are computed where the smaller side of the Jacobian is at most this.
EXACT = 512


@dataclass(frozen=True)
class MapSpectrum:
    """Spectrum of the Jacobian J of one stretch of a model, averaged over the samples; n = min(inputs, outputs).

    Attributes:
        name: `model`, name of the module, or `first -> last`.
        source: What J is taken by: `input` of the stretch, or the layer whose output it is, where the input is tokens.
        inputs, outputs: Numbers in one example before and after.
        exact: Whether all singular values were computed; else the moments are estimates and `sigma_max` a lower bound.
        singular_values: All n, in falling order; None if not `exact`.
        m1: tr(J J^T) / n, the mean squared singular value.
        m2: tr((J J^T)^2) / n.
        variance: m2 - m1^2, of the squared singular values.
        isometry_defect: m2 / m1^2 - 1, the mean of the samples'; 0 for a multiple of an isometry, None where J is 0.
        error: Standard error of the defect, from the random vectors alone; 0 if `exact`.
        sigma_max: Largest singular value, by Lanczos if not `exact` (to about 1e-3); None where the model allows no products
            J u, having an operation without a second derivative.
    """

    name: str
    source: str
    inputs: int
    outputs: int
    exact: bool
    singular_values: tuple[float, ...] | None
    m1: float
    m2: float
    variance: float
    isometry_defect: float | None
    error: float | None
    sigma_max: float | None


@dataclass(frozen=True)
class JacobianSpectra:
    """Spectra of the stretches that were asked for.

    Attributes:
        mode: `evaluation`, or `as called`: the mode in which the loss ran the model.
        samples: Examples averaged over.
        mixed: Whether the examples were run as one batch, in which they may act on each other (batch normalisation in training
            mode); J is then how an example's output depends on its own input, all others held.
        maps: One spectrum a stretch.
    """

    mode: Literal["evaluation", "as called"]
    samples: int
    mixed: bool
    maps: tuple[MapSpectrum, ...]


class JacobianSpectrum(Examination[JacobianSpectra]):
    """How a network, or a stretch of it, lengthens and shortens small changes of its input.

    All singular values where min(inputs, outputs) <= 512; else two moments of their squares from random vectors with a standard
    error, and the largest by Lanczos. There is no condition number: Lanczos says nothing of the smallest. Of several tensors,
    the first real one is taken; for tokens, J begins behind the first layer, the embedding.

    Args:
        between: Stretches: a name of a module or several, or pairs (first, last) for the output of the last by the input of the
            first, at their first calls; `blocks` for all modules of the kind with children that occurs most often; nothing for
            the whole model.
        samples: Examples of the first batch to average over, 1 to 4 suffice: they differ little.
        mode: `evaluation`, or `as called`: in the mode in which the loss runs the model.
        probes: Random vectors for each sample.
        sigma_max: Whether to look for the largest singular value where not all are computed.
        seed: Fixes the random vectors.

    Source:
        Pennington, Schoenholz, Ganguli 2017, Resurrecting the sigmoid in deep learning through dynamical isometry.
    """

    def __init__(
        self,
        between: str | Sequence[str | Stretch] = (),
        *,
        samples: int = 2,
        mode: Literal["evaluation", "as called"] = "evaluation",
        probes: int = 8,
        sigma_max: bool = True,
        seed: int = 0,
    ) -> None:
        if samples < 1 or probes < 3:
            raise InvalidOption(f"got samples={samples}, probes={probes}; expected at least 1 and 3")
        self.between = between
        self.samples = samples
        self.mode: Literal["evaluation", "as called"] = mode
        self.probes = probes
        self.sigma_max = sigma_max
        self.seed = seed

    def _measure(self, model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor]) -> JacobianSpectra:
        """Measure on examples of the first batch.

        Raises:
            InvalidModel: The output does not depend on the input by a path that gradients take, a batch does not come examples
                first, or an operation cannot be differentiated in this way (reentrant checkpoints).
            UnknownName: No module has a name in `between`.
        """
        batch = batches[0]
        rng = torch.Generator().manual_seed(self.seed)
        called = call_of(model, batch, loss)
        found = called.inputs()
        if found is None:
            raise InvalidModel(f"{type(model).__name__} gets no tensor; expected one to differentiate by")
        samples = min(self.samples, len(found[1]))
        cuts = self.mode == "evaluation" and _examples_are_independent(model, called)

        def run(sample: int) -> int:
            """One pass with this sample; tells in which row it is."""
            if self.mode == "as called":
                loss(model, batch)
            else:
                (called.rows(sample, sample + 1) if cuts else called).again(model.eval())
            return 0 if cuts else sample

        maps = []
        for name, first, last in self._stretches(model):
            spectra = []
            for sample in range(samples):
                run_sample = partial(run, sample)
                with refusing(model, "differentiated"), _jacobian(model, first, last, run_sample) as (J, at):
                    spectra.append(self._spectrum(J, rng))
                source, inputs, outputs = at, J.inputs, J.outputs
            maps.append(_average(name, source, inputs, outputs, spectra))
        return JacobianSpectra(self.mode, samples, not cuts, tuple(maps))

    def _stretches(self, model: nn.Module) -> list[tuple[str, nn.Module, nn.Module]]:
        modules = dict(model.named_modules())
        between = [self.between] if isinstance(self.between, str) else list(self.between)
        if self.between == "blocks":
            between = list(_blocks(model))
        if not between:
            return [("model", model, model)]
        pairs = [(each, each) if isinstance(each, str) else each for each in between]
        for name in (name for pair in pairs for name in pair):
            if name not in modules:
                raise UnknownName("module", name, modules)
        return [(a if a == b else f"{a} -> {b}", modules[a], modules[b]) for a, b in pairs]

    def _spectrum(self, J: JacobianProducts, rng: torch.Generator) -> _Spectrum:
        if min(J.inputs, J.outputs) <= EXACT:
            values = torch.linalg.svdvals(J.matrix())
            return _Spectrum(exact_moments(values), float(values[0]), values)
        moments, sigma = estimated_moments(J, self.probes, rng), None
        if self.sigma_max:
            try:
                sigma = largest_singular_value(J, rng)
            except RuntimeError:
                sigma = None  # an operation has no second derivative, and moments do without
        return _Spectrum(moments, sigma, None)


@dataclass(frozen=True)
class _Spectrum:
    moments: Moments
    sigma_max: float | None
    values: Tensor | None


@contextmanager
def _jacobian(
    model: nn.Module, first: nn.Module, last: nn.Module, run: Callable[[], int]
) -> Iterator[tuple[JacobianProducts, str]]:
    """The Jacobian of a stretch at the example of one pass, and what it is taken by."""
    with left_as_found(model):  # to the end: putting buffers back would invalidate the graph
        # Attention written out: the fused kernels have no second derivative.
        with watching_ends(model, first, last) as ends, sdpa_kernel(SDPBackend.MATH):
            row = run()
        if ends.start is None or ends.end is None:
            stretch = f"{type(first).__name__} to {type(last).__name__}"
            raise InvalidModel(f"no real number passes from {stretch}; choose another stretch")
        yield JacobianProducts(ends.start, ends.end, row), ends.source


def _average(name: str, source: str, inputs: int, outputs: int, spectra: Sequence[_Spectrum]) -> MapSpectrum:
    m1, m2, defect, error = torch.tensor([each.moments for each in spectra], dtype=torch.float64).unbind(1)
    values = [each.values for each in spectra if each.values is not None]
    largest = [each.sigma_max for each in spectra if each.sigma_max is not None]
    known = bool(defect.isfinite().all())
    return MapSpectrum(
        name=name,
        source=source,
        inputs=inputs,
        outputs=outputs,
        exact=bool(values),
        singular_values=tuple(torch.stack(values).mean(0).tolist()) if values else None,
        m1=float(m1.mean()),
        m2=float(m2.mean()),
        variance=float((m2 - m1**2).mean()),
        isometry_defect=float(defect.mean()) if known else None,
        error=float(error.square().sum().sqrt()) / len(spectra) if known and bool(error.isfinite().all()) else None,
        sigma_max=sum(largest) / len(largest) if largest else None,
    )


def _examples_are_independent(model: nn.Module, called: ModelCall) -> bool:
    """Whether, in evaluation, the first example alone gives the output that it gives among the others."""
    with left_as_found(model), torch.no_grad():
        model.eval()
        try:
            together, alone = first_tensor(called.again(model)), first_tensor(called.rows(0, 1).again(model))
        except Exception:
            return False  # a model may be made for one size of batch
    if together is None or alone is None or len(alone) != 1 or alone.shape[1:] != together.shape[1:]:
        return False
    scale = float(together[0].abs().max())
    return torch.allclose(together[:1], alone, rtol=1e-3, atol=1e-3 * scale)


def _blocks(model: nn.Module) -> Iterator[str]:
    """Names of the outermost modules of the kind with children that occurs most often."""
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    kinds = {
        name: type(module)
        for name, module in model.named_modules()
        if name and next(module.children(), None) is not None and not isinstance(module, containers)
    }
    counts = Counter(kinds.values()).most_common(1)
    if not counts:
        raise InvalidOption(f"{type(model).__name__} has no blocks: no module in it but containers has children; name modules")
    inside: tuple[str, ...] = ()
    for name, kind in kinds.items():
        if kind is counts[0][0] and not name.startswith(inside or ("\0",)):
            yield name
            inside = (*inside, f"{name}.")

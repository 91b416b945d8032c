"""Whether different examples still look different, layer by layer."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidData
from deepforward.instruments.examination import Examination
from deepforward.instruments.instrument import as_real
from deepforward.instruments.layer_hooks import first_tensor, in_backward, layers_of
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.model_call import ModelCall

#: Numbers of an activation that are taken to double precision at a time.
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Representation:
    """How the examples of a batch lie to each other at one place.

    Attributes:
        key: `name#call` of the layer whose output it is, or `input`.
        kind: Class name of the layer's module; "" for the input.
        cosine: Mean over all pairs of different examples of <a, b> / (|a| |b|), not centred; None if fewer than two are not 0.
        effective_rank: exp(-sum p log p), p = s / sum s, s the singular values of the (examples, units) matrix; None for 0.
        full_rank: Largest possible rank, min(examples, units).
    """

    key: str
    kind: str
    cosine: float | None
    effective_rank: float | None
    full_rank: int


@dataclass(frozen=True)
class Representations:
    """Representations of one batch at all layers.

    Attributes:
        examples: Examples compared.
        input: Of the model's input, to compare with; None for tokens.
        layers: Of the layers' outputs, in the order of the forward pass.
        last_hidden: That of the last layer before the one that gives the model's output; None in a model of one layer.
    """

    examples: int
    input: Representation | None
    layers: tuple[Representation, ...]
    last_hidden: Representation | None


class RankCollapse(Examination[Representations]):
    """Mean pairwise cosine and effective rank of the activations of different examples, from one forward pass.

    The cosine is the correlation c of mean field theory, q_ab / sqrt(q_aa q_bb), of second moments that are not centred; it
    goes to 1 with depth in critical networks of ReLU or GELU, whose gradients are healthy and which still do not learn.

    Args:
        examples: Examples of the first batch that are compared, at least 2.

    Source:
        Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation (the map of c); Roy, Vetterli 2007, The
        effective rank: a measure of effective dimensionality.
    """

    def __init__(self, examples: int = 64) -> None:
        self.examples = examples

    def _measure(self, model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor]) -> Representations:
        """Measure on the first batch, in the mode that the loss runs the model in.

        Raises:
            InvalidData: There is a batch of a single example.
        """
        batch = batches[0]
        with left_as_found(model), _Pass(model, self.examples) as seen:
            loss(model, batch)
        if seen.rows is None or seen.rows < 2:
            raise InvalidData(f"got a batch of {seen.rows or 0} examples to compare; give at least 2")
        return Representations(
            examples=seen.rows,
            input=seen.input,
            layers=tuple(shown for shown, _ in seen.layers),
            last_hidden=next((shown for shown, at in reversed(seen.layers) if at not in seen.ends), None),
        )


class _Pass:
    """Looks at the outputs of layers while the model is first called, and keeps numbers only."""

    def __init__(self, model: nn.Module, examples: int) -> None:
        self.rows: int | None = None
        self.input: Representation | None = None
        self.layers: list[tuple[Representation, int]] = []
        self.ends: set[int] = set()
        self._model, self._examples = model, examples
        self._calls: Counter[str] = Counter()
        self._running = self._done = False
        self._alive: deque[Tensor] = deque(
            maxlen=4
        )  # so that the output of the model does not take the address of one of these

    def __enter__(self) -> _Pass:
        self._handles = [self._model.register_forward_pre_hook(self._begin, with_kwargs=True)]
        for name, module in layers_of(self._model).items():
            self._handles.append(module.register_forward_hook(partial(self._see, name)))
        self._handles.append(self._model.register_forward_hook(self._end))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found = ModelCall(args, kwargs).inputs()
        if self._done or found is None:
            return
        self._running, self._batch = True, len(found[1])
        self.rows = min(self._batch, self._examples)
        if found[1].is_floating_point() and self.rows > 1:
            self.input = self._represent("input", "", found[1])

    def _see(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if not self._running or tensor is None or in_backward():
            return
        key = f"{name}#{self._calls[name]}"
        self._calls[name] += 1
        self._alive.append(tensor)
        if len(tensor) == self._batch > 1:
            self.layers.append((self._represent(key, type(module).__name__, tensor), tensor.untyped_storage().data_ptr()))

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if self._running and tensor is not None:
            self.ends.add(tensor.untyped_storage().data_ptr())
        self._done, self._running = True, False

    def _represent(self, key: str, kind: str, tensor: Tensor) -> Representation:
        values = as_real(tensor.detach()[: self.rows])
        rows = values.flatten(1) if values.dim() > 1 else values[:, None]
        products = gram(rows)
        return Representation(key, kind, mean_cosine(products), effective_rank(products), min(rows.shape))


def gram(rows: Float[Tensor, "examples units"]) -> Float[Tensor, "examples examples"]:
    """Inner products of all pairs of rows, in double precision, a part of the units at a time."""
    products = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for part in rows.split(max(1, _CHUNK // len(rows)), dim=1):
        exact = part.cpu().double()
        products += exact @ exact.T
    return products


def mean_cosine(products: Float[Tensor, "examples examples"]) -> float | None:
    """Mean cosine of all pairs of rows, from their inner products; None if fewer than two rows are finite and not 0."""
    squares = products.diagonal()
    kept = squares.isfinite() & (squares > 0)
    if int(kept.sum()) < 2:
        return None
    norms = squares[kept].sqrt()
    cosines = products[kept][:, kept] / norms / norms[:, None]
    return float((cosines.sum() - cosines.trace()) / (len(norms) * (len(norms) - 1)))


def effective_rank(products: Float[Tensor, "examples examples"]) -> float | None:
    """Exponential of the entropy of the normalised singular values, from inner products of rows; None if all is 0 or some NaN.

    Squared singular values below the rounding of the largest count as 0.
    """
    if not bool(products.isfinite().all()):
        return None
    squares = torch.linalg.eigvalsh(products)
    squares = squares[squares > len(squares) * torch.finfo(torch.float64).eps * squares[-1]]
    if len(squares) == 0 or float(squares[-1]) <= 0:
        return None
    shares = squares.sqrt() / squares.sqrt().sum()
    return float(torch.special.entr(shares).sum().exp())

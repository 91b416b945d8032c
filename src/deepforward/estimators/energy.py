"""What the estimators of energy-based models have in common: a recipe, trained by the one engine, and the likelihood."""

from __future__ import annotations

import copy
import math
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from deepforward.data import Dataset, Split
from deepforward.engine import Recipe
from deepforward.engine.assembly import Parts, assemble
from deepforward.engine.batches import draw_batches
from deepforward.engine.device import choose_device, threads
from deepforward.engine.randomness import isolated, stream
from deepforward.engine.step import Stepper
from deepforward.errors import Diverged, InvalidData, InvalidOption, LikelihoodWarning
from deepforward.estimators.arrays import count_of, hidden_of, python_number, seed_of, tensor_of
from deepforward.estimators.estimator import Estimator
from deepforward.estimators.training import train
from deepforward.metrics.likelihood import Annealed, best_log_partition

#: Chains and temperatures of the estimate of log Z where it cannot be enumerated.
_CHAINS, _TEMPERATURES = 100, 5000


@dataclass(eq=False, repr=False, kw_only=True)
class EnergyEstimator(Estimator):
    """A model with an energy, trained by contrastive divergence.

    Subclasses add parameters of their own, and say which model they are.

    Attributes:
        recipe_: The complete recipe of the last fit.
        model_: The trained module; it takes scaled examples.
        scaling_: The fitted scaling before it.
        history_: One mapping an epoch, from `fit`.
        n_features_in_: Number of features.
    """

    #: Name of the model's card.
    _card: ClassVar[str]

    #: Kind of the visible units, where it is no parameter.
    visible = "binary"

    scaling: str = "auto"
    n_chains: int = 100
    centre: bool = True
    binarize: str = "stochastic"
    learning_rate: float = 0.1
    momentum: float = 0.5
    weight_decay: float = 0.0
    batch_size: int = 32
    n_iter: int = 20
    validation_fraction: float = 0.0
    device: str = "auto"
    verbose: int = 0
    random_state: Any = None

    @abstractmethod
    def _model_options(self) -> Mapping[str, Any]:
        """Keyword arguments of the model."""

    @abstractmethod
    def _features(self) -> int:
        """Number of features that the model gives."""

    @abstractmethod
    def _decode(self, means: Tensor) -> Tensor:
        """Means of the visible units given those of the topmost hidden ones."""

    @abstractmethod
    def _stages(self) -> Sequence[Mapping[str, Any]]:
        """Objective, its options and passes of each training of the model, in order, as fields of the recipe."""

    def fit(self, X: Any, y: Any = None) -> Any:
        """Train anew on `X`, (examples, features); `y` is ignored.

        Returns:
            The estimator itself.

        Raises:
            InvalidData: Values that the visible units cannot take. Like all errors below but the last, it is a `ValueError`.
            InvalidOption: A parameter out of range.
            Diverged: Training led to numbers that are not finite.
        """
        inputs = tensor_of(self, X, reset=True)
        self._train(self._recipe(inputs), inputs)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Any:
        """Train on with one pass over `X`, in batches of `batch_size`, at the constant rate of the last stage.

        The first call makes the model, with biases and scaling at the statistics of its `X`; a stack it first trains by one
        pass of each stage. Later calls go on with the last stage. Persistent chains always go on from where the last call left
        them, and from one `partial_fit` to the next so do the moments of the optimiser and the random draws. After `fit`, and
        after the stages of a first call, moments begin at zero, and draws at another seed, which follows from the recipe's.

        Returns:
            The estimator itself.

        Raises:
            As `fit`.
        """
        return super().partial_fit(X, y)

    def _go_on(self, inputs: Tensor) -> None:
        self.model_.check(self._scaled(inputs), "X")
        self._annealed: Annealed | None = None
        parts = replace(self._parts, train=Split(inputs, torch.zeros(len(inputs))))
        stepper = Stepper(parts, self._rng)
        stepper.set_rate(self._stages()[-1].get("learning_rate", python_number(self.learning_rate)))
        parts.model.train()
        with threads(parts.arithmetic.threads):
            for indices in draw_batches(len(inputs), python_number(self.batch_size), self._order):
                stepper.step(parts.batch(parts.train, indices), _expect_finite)
        parts.model.eval()

    def transform(self, X: Any) -> np.ndarray:
        """Means of the topmost hidden units given each example: (examples, features out), float32."""
        visible, exact = self._visible(X), self._exact()
        with torch.no_grad():
            return self._encode(exact, visible.to(_parameter(exact))).float().cpu().numpy()

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Means of the visible units given those of the topmost hidden ones, in the units of the data, float32.

        Args:
            X: (examples, features out), for example what `transform` gave.

        Returns:
            (examples, features).

        Raises:
            ShapeError: Another number of columns than `transform` gives.
        """
        check_is_fitted(self, "model_")
        means = hidden_of(X, self._n_features_out).to(self._parts.arithmetic.device)
        with torch.no_grad():
            return self.scaling_.inverse(self._decode(means)).cpu().numpy()

    def sample(self, n_samples: int = 1, *, n_sweeps: int = 1000, means: bool = False, random_state: Any = None) -> np.ndarray:
        """Draws from the model by Gibbs sampling, each by a chain of its own from independent units.

        Args:
            n_samples: Number of draws.
            n_sweeps: Sweeps over all units before a draw; the fewer, the less it forgot its beginning.
            means: Whether the last draw of the visible units is replaced by their means, as for pictures.
            random_state: Fixes the draws; default: the parameter of the estimator.

        Returns:
            (n_samples, features) in the units of the training data, float32.

        Raises:
            InvalidOption: A number of draws or sweeps that is no whole number of at least 1.
        """
        check_is_fitted(self, "model_")
        count, sweeps = count_of("n_samples", n_samples), count_of("n_sweeps", n_sweeps)
        rng = self._generator(self.random_state if random_state is None else random_state)
        with torch.no_grad():
            state = self.model_.advance(self.model_.start(count, rng), rng, sweeps)
            visible = self.model_.mean_visible(state) if means else state[0]
            return self.scaling_.inverse(visible.float()).cpu().numpy()

    def score_samples(self, X: Any) -> np.ndarray:
        """Log-likelihood of each example, log p(v), or the lower bound of it that the model has, nats, in float64.

        The partition function is `log_partition_`. Fractions, where units are binary or softmax, are taken as they are, which
        bounds the mean log-likelihood of zeros and ones drawn with these probabilities from below, since log p(v) + log Z is
        convex in v; with `binarize="threshold"` they are rounded. For gaussian units it is a density in the units of X.

        Raises:
            InvalidOption: Gaussian units behind softmax scaling, where there is no such density.
        """
        visible, log_volume = self._visible(X), self._log_volume()
        if self.binarize == "threshold":
            visible = self.model_.realise(visible, "threshold", self._generator(0))
        exact = self._exact()
        visible = visible.to(_parameter(exact))
        rng = torch.Generator(visible.device).manual_seed(self._seed)
        with torch.no_grad():
            scores = exact.log_unnormalised(visible, rng) - self.log_partition_
        return (scores - log_volume).cpu().numpy()

    @property
    def log_partition_(self) -> float:
        """Log Z, nats: counted where a layer is small, else by annealed importance sampling; kept until the model changes."""
        return self._partition().log_partition

    @property
    def log_partition_interval_(self) -> tuple[float, float]:
        """95% interval of `log_partition_`; both ends are the number itself where it was counted."""
        return self._partition().low, self._partition().high

    def _partition(self) -> Annealed:
        check_is_fitted(self, "model_")
        if self._annealed is None:
            rng = self._generator(self._seed)
            self._annealed = best_log_partition(self.model_, rng, chains=_CHAINS, temperatures=_TEMPERATURES)
            if not math.isfinite(self._annealed.low):
                warnings.warn(
                    f"log_partition_ rests on {self._annealed.effective:.1f} of {_CHAINS} annealed chains; its interval has no "
                    "lower end, so that scores mean little; expected many chains to agree; lower learning_rate or momentum",
                    LikelihoodWarning,
                    stacklevel=3,
                )
        return self._annealed

    def _recipe(self, inputs: Tensor) -> Recipe:
        """All that fixes the training, as plain values; the data are given with it."""
        common = {
            "batch_size": python_number(self.batch_size),
            "optimizer": "sgd",
            "optimizer_options": {"momentum": python_number(self.momentum)} if self.momentum else {},
            "learning_rate": python_number(self.learning_rate),
            "weight_decay": python_number(self.weight_decay),
        }
        *earlier, last = ({**common, **stage} for stage in self._stages())
        return Recipe(
            model=self._card,
            model_options=dict(self._model_options()),
            data="given",
            scaling=self._scaling_for(inputs),
            validation=python_number(self.validation_fraction),
            pretraining=tuple(earlier),
            device=self.device,
            probe_budget=0.0,
            seed=seed_of(self.random_state),
            **last,
        ).complete("regression")

    def _train(self, recipe: Recipe, inputs: Tensor) -> None:
        """Run the engine and keep what it trained.

        Raises:
            Diverged: Training led to numbers that are not finite.
        """
        self._keep(*train(recipe, _dataset(inputs), verbose=self.verbose))

    def _begin(self, inputs: Tensor) -> None:
        """Make the model and, where training has stages, train each by one pass."""
        recipe = self._recipe(inputs).replace(validation=0.0, averaging=0.0, epochs=1)
        if recipe.pretraining:
            stages = ({**stage, "averaging": 0.0, "epochs": 1} for stage in recipe.pretraining)
            self._train(recipe.replace(pretraining=tuple(stages)), inputs)
            return
        with isolated(recipe.seed, choose_device(recipe.device)):
            self._keep(assemble(recipe, _dataset(inputs)), [])

    def _encode(self, model: Any, visible: Tensor) -> Tensor:
        """Means of the topmost hidden units of the model."""
        return model(visible)

    def _exact(self) -> Any:
        """The model in float64, whose rounding is too small to tell in which batch, and where in it, an example stood."""
        twin = copy.deepcopy(self.model_)
        return (twin.cpu() if self._parts.arithmetic.device.type == "mps" else twin).double()  # Apple's devices lack float64

    def _scaling_for(self, inputs: Tensor) -> str:
        """The scaling that `auto` stands for.

        Raises:
            InvalidData: No scaling was wanted and binary units cannot take the data.
        """
        low, high = inputs.min().item(), inputs.max().item()
        fits = self.visible != "binary" or (low >= 0 and high <= 1)
        if self.scaling == "auto":
            return "standardise" if self.visible == "gaussian" else "none" if fits else "min-max"
        if self.scaling == "none" and not fits:
            got = f"X: got values from {low:.4g} to {high:.4g}"
            raise InvalidData(f"{got}; expected numbers from 0 to 1 for binary units; scale X or use scaling='auto'")
        return self.scaling

    def _keep(self, parts: Parts, history: list[dict[str, float]]) -> None:
        """Keep the trained parts, without the data."""
        few = parts.train.select(torch.arange(1))
        data = Dataset("given", few, few, ())
        self._parts = replace(parts, data=data, train=few, validation=None)
        self.model_: Any = parts.model.eval()
        self.recipe_, self.scaling_, self.history_ = parts.recipe, parts.scaling, history
        self._n_features_out = self._features()
        self._seed = parts.recipe.seed
        # The engine's own streams have begun at this seed, and their states do not come back: begin others.
        later = seed_of(self._seed)
        self._order = stream(later, "order")
        self._rng = stream(later, "objective", parts.arithmetic.device.type)
        self._annealed = None

    def _visible(self, X: Any) -> Tensor:
        """New data as values of the visible units.

        Raises:
            InvalidData: Values that they cannot take.
        """
        check_is_fitted(self, "model_")
        visible = self._scaled(tensor_of(self, X, reset=False))
        self.model_.check(visible, "X")
        return visible

    def _scaled(self, inputs: Tensor) -> Tensor:
        """Scaled values on the device; what min-max scaling puts outside of the range it was fitted to is cut off."""
        scaled = self.scaling_(inputs)
        clips = self.visible == "binary" and self.scaling_.spec.startswith("min-max")
        return scaled.clamp(0, 1) if clips else scaled

    def _log_volume(self) -> float:
        """Log of how much the scaling shrinks volumes, by which densities in the units of the data are less.

        Raises:
            InvalidOption: Softmax scaling: data stay within (0, 1), gaussian units do not, so that no density integrates to 1.
        """
        if self.visible != "gaussian":
            return 0.0
        if self.scaling_.spec.startswith("softmax"):
            got = f"score_samples got gaussian units behind scaling='{self.scaling_.spec}'"
            raise InvalidOption(f"{got}, which no density of X belongs to; expected standardise, min-max or none")
        return float(self.scaling_.spread.double().log().sum())

    def _generator(self, random_state: Any) -> torch.Generator:
        return torch.Generator(self._parts.arithmetic.device).manual_seed(seed_of(random_state))


def _dataset(inputs: Tensor) -> Dataset:
    """Examples without targets; the test split, which an estimator has no use for, is one of them."""
    split = Split(inputs, torch.zeros(len(inputs)))
    return Dataset("given", split, split.select(torch.arange(1)), ())


def _expect_finite(number: Tensor) -> None:
    if not bool(number.isfinite()):
        raise Diverged(f"loss became {number.item()} in partial_fit; lower the learning rate")


def _parameter(model: nn.Module) -> Tensor:
    return next(model.parameters())


def contrastive(estimator: EnergyEstimator, **own: Any) -> dict[str, Any]:
    """Options of contrastive divergence; the likelihood is left to `log_partition_`, which is computed when asked for.

    Args:
        estimator: Says whether to centre, and how to binarise.
        own: Further options.
    """
    shared = {"centre": estimator.centre, "binarize": estimator.binarize, "ais_chains": 0}
    return shared | {name: python_number(value) for name, value in own.items()}

"""The Hopfield network with the surface of scikit-learn."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from deepforward.errors import InvalidOption
from deepforward.estimators.arrays import count_of, python_number, seed_of, tensor_of
from deepforward.estimators.estimator import Estimator
from deepforward.models.energy import Hopfield as Network


@dataclass(eq=False, repr=False)
class Hopfield(Estimator):
    """An associative memory: `fit` stores examples, `transform` recalls what a damaged or incomplete one was stored as.

    A network stores patterns of two values. A feature is high where it lies above `threshold_`, which with `auto` follows from
    the training data: 0 if all are -1 or +1; else one half if all lie in [0, 1]; else the mean of each feature. Recalled
    patterns have the values `levels_`: 0 and 1 if the data lie in [0, 1], else -1 and +1.

    Args:
        rule: `hebb`, or `pseudo-inverse`, which stores correlated patterns too.
        mode: `asynchronous` or `synchronous` recall. Asynchronous recall takes the units in their own order, so that it depends
            on nothing but the example.
        max_sweeps: Most sweeps of recall.
        threshold: `auto`, or a number.
        random_state: Fixes what `sample` starts from: None, a whole number or a `RandomState`.

    Attributes:
        model_: The network.
        patterns_: Patterns stored, (patterns, features) of -1 and +1, int8.
        threshold_: (features,), float32.
        levels_: Low and high value of what is recalled.
        n_features_in_: Number of features.

    Source: Hopfield 1982; Personnaz, Guyon, Dreyfus 1985 (see `deepforward.models.energy.hopfield`).
    """

    rule: str = "hebb"
    _: KW_ONLY
    mode: str = "asynchronous"
    max_sweeps: int = 100
    threshold: float | str = "auto"
    random_state: Any = None

    def fit(self, X: Any, y: Any = None) -> Any:
        """Store the rows of `X`, in place of all that was stored; `y` is ignored.

        Returns:
            The estimator itself.

        Raises:
            UnknownName: No such rule.
            InvalidData: For the pseudo-inverse, patterns so many that every state is a memory. It is a `ValueError`.
        """
        inputs = tensor_of(self, X, reset=True)
        self._begin(inputs)
        self._go_on(inputs)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Any:
        """Store the rows of `X` besides what was stored; the first call also fixes the threshold.

        Returns:
            The estimator itself.

        Raises:
            As `fit`.
        """
        return super().partial_fit(X, y)

    def transform(self, X: Any) -> np.ndarray:
        """The pattern that recall ends in from each example, (examples, features) of `levels_`, float32."""
        return self.predict(X)

    def predict(self, X: Any) -> np.ndarray:
        """What `transform` gives, but always an array."""
        return self._recalled(self._states(X))

    def sample(self, n_samples: int = 1, *, random_state: Any = None) -> np.ndarray:
        """Memories that recall ends in from random states: stored patterns, their opposites, and mixtures that nobody stored.

        Args:
            n_samples: Number of random states.
            random_state: Fixes them; default: the parameter of the estimator.

        Returns:
            (n_samples, features) of `levels_`, float32.

        Raises:
            InvalidOption: A number of states that is no whole number of at least 1.
        """
        check_is_fitted(self, "model_")
        count = count_of("n_samples", n_samples)
        seed = seed_of(self.random_state if random_state is None else random_state)
        rng = torch.Generator().manual_seed(seed)
        states = torch.randint(2, (count, self.n_features_in_), generator=rng) * 2 - 1
        return self._recalled(states)

    def score_samples(self, X: Any) -> np.ndarray:
        """-E of each example as it is, 1/2 s'W s, in float64: the higher, the more it is like what was stored."""
        states = self._states(X)
        return -self.model_.energy(states).numpy()

    def _begin(self, inputs: Tensor) -> None:
        """Threshold, levels, and a network that has stored nothing."""
        within = bool(((inputs >= 0) & (inputs <= 1)).all())
        self.threshold_ = self._threshold(inputs, within).numpy()
        self.levels_ = (0.0, 1.0) if within else (-1.0, 1.0)
        self._n_features_out = inputs.shape[1]
        self.patterns_ = np.empty((0, inputs.shape[1]), np.int8)

    def _threshold(self, inputs: Tensor, within: bool) -> Tensor:
        number = python_number(self.threshold)
        if self.threshold == "auto":
            if within or bool((inputs.abs() == 1).all()):
                return torch.full((inputs.shape[1],), 0.5 if within else 0.0)
            return inputs.double().mean(0).float()
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise InvalidOption(f"threshold is {self.threshold!r}; expected 'auto' or a number")
        return torch.full((inputs.shape[1],), float(number))

    def _go_on(self, inputs: Tensor) -> None:
        patterns = torch.cat((torch.from_numpy(self.patterns_), self._spins(inputs)))
        network = Network(patterns.shape[1])
        network.store(patterns, self.rule)
        self.model_, self.patterns_ = network, patterns.numpy()

    def _spins(self, inputs: Tensor) -> Tensor:
        return (inputs > torch.from_numpy(self.threshold_)).to(torch.int8) * 2 - 1

    def _states(self, X: Any) -> Tensor:
        check_is_fitted(self, "model_")
        return self._spins(tensor_of(self, X, reset=False))

    def _recalled(self, states: Tensor) -> np.ndarray:
        spins = self.model_.recall(states, mode=self.mode, max_sweeps=python_number(self.max_sweeps)).states.numpy()
        low, high = self.levels_
        return np.where(spins > 0, np.float32(high), np.float32(low))

"""Restricted Boltzmann machines with the surface of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from deepforward.errors import InvalidOption
from deepforward.estimators.arrays import python_number
from deepforward.estimators.energy import EnergyEstimator, contrastive
from deepforward.metrics.likelihood import pseudo_log_likelihood


@dataclass(eq=False, repr=False)
class RBM(EnergyEstimator):
    """A restricted Boltzmann machine: features that explain the data, and a likelihood of it.

    Args:
        n_components: Number of hidden units.
        visible: Kind of visible units: `binary`, `gaussian` or `softmax`.
        hidden: Kind of hidden units: `binary` or `relu`.
        n_categories: Units in a group of softmax visible units: X is one-hot in groups of so many columns.
        scaling: `auto`: for binary units, X as it is where all of it lies in [0, 1], else `min-max`; for gaussian ones
            `standardise`; for softmax `none`. `none`, `min-max`, `standardise`, `softmax` are always that. Statistics are those
            of the training data; what min-max later puts outside of [0, 1] is cut off.
        k: Gibbs sweeps of a step (CD-k, PCD-k).
        persistent: Whether chains go on from step to step (PCD) instead of starting at the data (CD).
        n_chains: Number of persistent chains.
        temperatures: Above 1: parallel tempering with so many temperatures.
        centre: Whether the gradient is centred.
        binarize: How fractions become values of binary units in training: `stochastic`, `threshold` or `none`.
        sparsity: Activity that each hidden unit should have on average, in (0, 1), or None.
        learning_rate: Peak rate; it falls linearly to 0 in `fit`, and is constant in `partial_fit`.
        momentum: Of the optimiser, in [0, 1).
        weight_decay: L2 penalty.
        batch_size: Examples a step.
        n_iter: Passes over the data in `fit`.
        validation_fraction: Share held out to be scored after each epoch, into `history_`.
        device: `auto`, `cpu`, `cuda`, ...
        verbose: Whether progress is shown.
        random_state: None, a whole number or a `RandomState`.

    Attributes:
        recipe_, model_, scaling_, history_, n_features_in_: See `EnergyEstimator`.

    Source: Hinton 2002; Tieleman 2008; Melchior, Fischer, Wiskott 2016 (see `deepforward.models.energy.RBM` and
        `deepforward.objectives.energy.ContrastiveDivergence`).
    """

    _card: ClassVar[str] = "rbm"

    n_components: int = 256
    _: KW_ONLY
    visible: str = "binary"
    hidden: str = "binary"
    n_categories: int = 0
    k: int = 1
    persistent: bool = True
    temperatures: int = 1
    sparsity: float | None = None

    def _model_options(self) -> Mapping[str, Any]:
        options = {"hidden": python_number(self.n_components), "visible": self.visible, "hidden_kind": self.hidden}
        return options | {"categories": python_number(self.n_categories)}

    def _stages(self) -> Sequence[Mapping[str, Any]]:
        chains = {"steps": self.k, "persistent": self.persistent, "chains": self.n_chains, "temperatures": self.temperatures}
        options = contrastive(self, **chains, sparsity=self.sparsity)
        return [{"objective": "contrastive-divergence", "objective_options": options, "epochs": python_number(self.n_iter)}]

    def _features(self) -> int:
        return self.model_.hidden_units.size

    def _decode(self, means: Tensor) -> Tensor:
        return self.model_.visible_units.mean(self.model_.down(means))

    @property
    def components_(self) -> np.ndarray:
        """Weights, (n_components, features), as scikit-learn lays them."""
        return self._fitted().weight.detach().cpu().numpy().T

    @property
    def intercept_hidden_(self) -> np.ndarray:
        """Biases of the hidden units."""
        return self._fitted().hidden_units.bias.detach().cpu().numpy()

    @property
    def intercept_visible_(self) -> np.ndarray:
        """Biases of the visible units."""
        return self._fitted().visible_units.bias.detach().cpu().numpy()

    def pseudo_likelihood(self, X: Any, *, exact: bool = True) -> np.ndarray:
        """Sum over the features of log p(v_i | all others), nats an example: a proxy of log p(v) that needs no log Z.

        Args:
            X: (examples, features); fractions are rounded to 0 and 1.
            exact: Take every feature; else one of each example stands for all, as in `score_samples` of scikit-learn's
                `BernoulliRBM`.

        Raises:
            InvalidOption: The visible units are not binary.
        """
        visible = self._visible(X)
        if self.visible != "binary":
            raise InvalidOption(f"pseudo_likelihood got visible='{self.visible}'; expected binary; use score_samples")
        rng = self._generator(self._seed)
        with torch.no_grad():
            rounded = self.model_.realise(visible, "threshold", rng)
            return pseudo_log_likelihood(self.model_, rounded, rng, exact=exact).double().cpu().numpy()

    def _fitted(self) -> Any:
        check_is_fitted(self, "model_")
        return self.model_

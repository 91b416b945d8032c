"""Deep Boltzmann machines with the surface of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from deepforward.estimators.arrays import plain, stores
from deepforward.estimators.energy import EnergyEstimator, contrastive
from deepforward.estimators.greedy import layerwise, sizes

#: Sweeps of mean field behind a feature: a fixed number, so that it depends on no other example of the batch.
_SWEEPS = 50


class DBM(EnergyEstimator):
    """A deep Boltzmann machine: undirected layers, trained greedily, then together by persistent chains against mean field.

    Features are the mean field of the topmost units. The likelihood is a lower bound.

    Args:
        hidden: Units of each hidden layer from the lowest up, at least two layers.
        scaling: `auto`: X as it is where all of it lies in [0, 1], else `min-max`; or the name of a scaling, as in `RBM`.
        k: Gibbs sweeps of a step of joint training; greedy training takes one.
        n_chains: Number of persistent chains of joint training.
        centre: Whether gradients are centred.
        binarize: How fractions become values of binary units in training: `stochastic`, `threshold` or `none`.
        learning_rate: Peak rate; it falls linearly to 0 in each stage of `fit`, and is constant in `partial_fit`.
        momentum: Of the optimiser, in [0, 1).
        weight_decay: L2 penalty.
        batch_size: Examples a step.
        n_iter: Passes over the data of joint training in `fit`.
        n_pretraining_iter: Passes of greedy training for each layer before; 0 is none.
        validation_fraction: Share held out to be scored after each epoch, into `history_`.
        device: `auto`, `cpu`, `cuda`, ...
        verbose: Whether progress is shown.
        random_state: None, a whole number or a `RandomState`.

    Attributes:
        recipe_, model_, scaling_, history_, n_features_in_: See `EnergyEstimator`; the history is that of joint training.

    Source: Salakhutdinov and Hinton 2009 (see `deepforward.models.energy.deep_boltzmann`).
    """

    _card: ClassVar[str] = "deep-boltzmann-machine"

    @stores
    def __init__(
        self,
        hidden: Sequence[int] = (500, 500),
        *,
        scaling: str = "auto",
        k: int = 5,
        n_chains: int = 100,
        centre: bool = True,
        binarize: str = "stochastic",
        learning_rate: float = 0.05,
        momentum: float = 0.5,
        weight_decay: float = 0.0,
        batch_size: int = 32,
        n_iter: int = 20,
        n_pretraining_iter: int = 10,
        validation_fraction: float = 0.0,
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.scaling = scaling
        self.k = k
        self.n_chains = n_chains
        self.centre = centre
        self.binarize = binarize
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.n_pretraining_iter = n_pretraining_iter
        self.validation_fraction = validation_fraction
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def _model_options(self) -> Mapping[str, Any]:
        return {"hidden": sizes(self.hidden)}

    def _stages(self) -> Sequence[Mapping[str, Any]]:
        passes = plain(self.n_pretraining_iter)
        greedy = layerwise(len(sizes(self.hidden)), contrastive(self), passes) if passes else []
        options = contrastive(self, steps=self.k, persistent=True, chains=self.n_chains)
        return [*greedy, {"objective": "contrastive-divergence", "objective_options": options, "epochs": plain(self.n_iter)}]

    def _features(self) -> int:
        return self.model_.layers[-1].size

    def _encode(self, model: Any, visible: Tensor) -> Tensor:
        return model.mean_field(visible, _SWEEPS, 0.0)[0][-1]

"""Deep Boltzmann machines with the surface of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from torch import Tensor

from deepforward.estimators.arrays import python_number
from deepforward.estimators.energy import EnergyEstimator, contrastive
from deepforward.estimators.greedy import layerwise, sizes

#: Sweeps of mean field behind a feature: a fixed number, so that it depends on no other example of the batch.
_SWEEPS = 50


@dataclass(eq=False, repr=False)
class DBM(EnergyEstimator):
    """A deep Boltzmann machine: undirected layers, trained together by persistent chains against mean field.

    Features are the mean field of the topmost units. The likelihood is a lower bound.

    All layers learn at once from small weights, which centred gradients make possible (Montavon and Müller 2012). Greedy
    training of one layer after another (Salakhutdinov and Hinton 2009) may come before. It is off, since the weights that it
    leaves bear only lower rates. On digits of 8x8 pixels, with twice 100 units, the bound after 20 passes at the default rate
    was -18 nats; after greedy training, and with `centre=False`, it was -25, that of independent units.

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
        n_pretraining_iter: Passes of greedy training for each layer before, which wants a lower rate, 0.1 or less; 0 is none.
        validation_fraction: Share held out to be scored after each epoch, into `history_`.
        device: `auto`, `cpu`, `cuda`, ...
        verbose: Whether progress is shown.
        random_state: None, a whole number or a `RandomState`.

    Attributes:
        recipe_, model_, scaling_, history_, n_features_in_: See `EnergyEstimator`; the history is that of joint training.

    Source: Salakhutdinov and Hinton 2009; Montavon and Müller 2012, Deep Boltzmann machines and the centering trick (see
        `deepforward.models.energy.deep_boltzmann`).
    """

    _card: ClassVar[str] = "deep-boltzmann-machine"

    hidden: Sequence[int] = (500, 500)
    _: KW_ONLY
    k: int = 1
    learning_rate: float = 0.3
    n_pretraining_iter: int = 0

    def _model_options(self) -> Mapping[str, Any]:
        return {"hidden": sizes(self.hidden)}

    def _stages(self) -> Sequence[Mapping[str, Any]]:
        passes = python_number(self.n_pretraining_iter)
        greedy = layerwise(len(sizes(self.hidden)), contrastive(self), passes) if passes else []
        options = contrastive(self, steps=self.k, persistent=True, chains=self.n_chains)
        return [
            *greedy,
            {"objective": "contrastive-divergence", "objective_options": options, "epochs": python_number(self.n_iter)},
        ]

    def _features(self) -> int:
        return self.model_.layers[-1].size

    def _encode(self, model: Any, visible: Tensor) -> Tensor:
        return model.mean_field(visible, _SWEEPS, 0.0)[0][-1]

    def _decode(self, means: Tensor) -> Tensor:
        """An inner layer takes what it receives from above for what it receives from below too, as in greedy training."""
        for machine in reversed(self.model_.stack):
            visible, hidden = machine.copies
            means = machine.visible_units.mean(machine.down(hidden * means)) / visible
        return means

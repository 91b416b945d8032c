"""Deep belief networks with the surface of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from torch import Tensor

from deepforward.estimators.arrays import python_number
from deepforward.estimators.energy import EnergyEstimator, contrastive
from deepforward.estimators.greedy import layerwise, sizes


@dataclass(eq=False, repr=False)
class DBN(EnergyEstimator):
    """A deep belief network: layer upon layer trained greedily, each on the features of the one below, then by up-down.

    Features are the means of the topmost units. The likelihood is a lower bound, estimated by draws of the hidden units, unless
    these are few.

    Args:
        hidden: Units of each hidden layer from the lowest up.
        scaling: `auto`: X as it is where all of it lies in [0, 1], else `min-max`; or the name of a scaling, as in `RBM`.
        k: Gibbs sweeps of a step of greedy training.
        persistent: Whether its chains go on from step to step instead of starting at the data.
        n_chains: Number of persistent chains.
        centre: Whether its gradient is centred.
        binarize: How fractions become values of binary units in training: `stochastic`, `threshold` or `none`.
        learning_rate: Peak rate of greedy training; it falls linearly to 0 in each stage of `fit`.
        momentum: Of the optimiser, in [0, 1).
        weight_decay: L2 penalty.
        batch_size: Examples a step.
        n_iter: Passes over the data for each layer in `fit`.
        n_fine_tuning_iter: Passes of up-down afterwards; 0 leaves the layers as they were trained.
        fine_tuning_rate: Peak rate of up-down; it falls likewise, and is constant in `partial_fit`.
        validation_fraction: Share held out to be scored after each epoch, into `history_`.
        device: `auto`, `cpu`, `cuda`, ...
        verbose: Whether progress is shown.
        random_state: None, a whole number or a `RandomState`.

    Attributes:
        recipe_, model_, scaling_, history_, n_features_in_: See `EnergyEstimator`; the history is that of the last stage.

    Source: Hinton, Osindero, Teh 2006 (see `deepforward.models.energy.deep_belief`).
    """

    _card: ClassVar[str] = "deep-belief-network"

    hidden: Sequence[int] = (500, 500)
    _: KW_ONLY
    k: int = 1
    persistent: bool = False
    n_fine_tuning_iter: int = 10
    fine_tuning_rate: float = 0.01

    def _model_options(self) -> Mapping[str, Any]:
        return {"hidden": sizes(self.hidden)}

    def _stages(self) -> Sequence[Mapping[str, Any]]:
        options = contrastive(self, steps=self.k, persistent=self.persistent, chains=self.n_chains)
        stages = layerwise(len(sizes(self.hidden)), options, python_number(self.n_iter))
        if self.n_fine_tuning_iter:
            stages.append(
                {
                    "objective": "up-down",
                    "objective_options": {"binarize": self.binarize, "ais_chains": 0},
                    "epochs": python_number(self.n_fine_tuning_iter),
                    "learning_rate": python_number(self.fine_tuning_rate),
                }
            )
        return stages

    def _features(self) -> int:
        return self.model_.top.hidden_units.size

    def _decode(self, means: Tensor) -> Tensor:
        for machine in reversed(list(self.model_.stack)):
            means = machine.visible_units.mean(machine.down(means))
        return means

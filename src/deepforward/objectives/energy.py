"""Training signals of energy-based models: data against chains of the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.data.dataset import Batch, Dataset
from deepforward.errors import InvalidModel, InvalidOption
from deepforward.metrics.likelihood import pseudo_log_likelihood
from deepforward.objectives import energy_portrait
from deepforward.objectives.energy_likelihood import log_likelihoods
from deepforward.objectives.objective import Objective, Signal, expect_whole_numbers
from deepforward.objectives.surrogate import follow

#: Examples that are remembered to watch a run by.
_REFERENCE = 500
#: Share of the old in the running means of hidden activities.
_MEMORY = 0.99
#: Sweeps of persistent chains from independent units before training: the model may have been trained by an earlier stage.
_BURN_IN = 50
#: Sweeps between the two states of a chain whose likeness tells how well chains mix.
_MIXING_SWEEPS = 20


class ContrastiveDivergence(Objective):
    """Descent of the gap of mean energy between data and the model's own chains, which is that of -log p(v), sampling aside.

    Gradients of the gap are computed in closed form or through autograd, whichever the model offers, centred if asked, and
    followed as they are. The loss is a scalar that has them, and its value tells nothing about progress. A model may have its
    energy in a `machine`, which is then what is trained.

    Args:
        steps: Gibbs sweeps of a step (the k of CD-k and PCD-k).
        persistent: Whether chains go on from step to step (stochastic maximum likelihood) instead of starting at the data.
        chains: Number of chains where they are persistent.
        temperatures: Above 1: parallel tempering, so many inverse temperatures from 0 to 1 for each chain, swapped every step.
        centre: Whether the gradient is that of the centred parametrisation, which makes learning invariant to flipping bits.
        binarize: `stochastic`, `threshold` or `none`: how data in [0, 1] become values of the visible units.
        sparsity: Activity that each hidden unit should have on average, in (0, 1), or None.
        sparsity_cost: Weight of the cross-entropy between that and the mean activity.
        ais_chains: Chains of annealed importance sampling at the end of a run; 0 leaves the likelihood out.
        ais_temperatures: Temperatures of it.

    Raises:
        InvalidOption: A number out of range.

    Source:
        Hinton 2002 (CD); Younes 1989, Tieleman 2008 (persistent chains); Desjardins et al. 2010 (tempering); Montavon and
        Müller 2012, Melchior, Fischer, Wiskott 2016 (centring); Lee, Ekanadham, Ng 2008 (sparsity).
    """

    descends: ClassVar[bool] = False
    metric: ClassVar[str] = "log_likelihood"
    maximize: ClassVar[bool] = True
    reference: Tensor

    def __init__(
        self,
        *,
        steps: int = 1,
        persistent: bool = False,
        chains: int = 100,
        temperatures: int = 1,
        centre: bool = True,
        binarize: str = "stochastic",
        sparsity: float | None = None,
        sparsity_cost: float = 0.1,
        ais_chains: int = 100,
        ais_temperatures: int = 5000,
    ) -> None:
        super().__init__()
        name = "contrastive divergence"
        expect_whole_numbers(name, 1, steps=steps, chains=chains, temperatures=temperatures)
        expect_whole_numbers(name, 0, ais_chains=ais_chains)
        expect_whole_numbers(name, 2, ais_temperatures=ais_temperatures)
        if sparsity is not None and not 0 < sparsity < 1:
            raise InvalidOption(f"contrastive divergence got sparsity={sparsity}; expected a number between 0 and 1")
        if not 0 <= sparsity_cost < math.inf:
            raise InvalidOption(f"contrastive divergence got sparsity_cost={sparsity_cost}; expected a number of at least 0")
        if temperatures > 1 and not persistent:
            raise InvalidOption(f"got temperatures={temperatures} without persistent chains; expected persistent=true")
        self.steps, self.persistent, self.chains, self.temperatures = steps, persistent, chains, temperatures
        self.centre, self.binarize = centre, binarize
        self.sparsity, self.sparsity_cost = sparsity, sparsity_cost
        self.ais_chains, self.ais_temperatures = ais_chains, ais_temperatures
        self.layers = 0
        self.register_buffer("reference", torch.zeros(0))

    def output_shape(self, data: Dataset) -> tuple[int, ...] | None:
        """The model's own number of features."""
        return None

    @torch.no_grad()
    def prepare(self, model: nn.Module, inputs: Tensor, rng: torch.Generator) -> None:
        """Biases at the statistics of the data, offsets of centring at the means, and chains that are draws of the model.

        The chains begin at independent units and are then advanced 50 sweeps, since the model need not be untrained.

        Raises:
            InvalidModel: The model has no energy.
            InvalidData: Values that the visible units cannot take.
            InvalidOption: The model cannot do what was asked.
        """
        energy = _energy_model(model)
        visible = energy.visible(inputs)
        energy.check(visible)
        # Drawn values have the means of the data, which are known better; a threshold changes the means.
        energy.prepare(energy.realise(visible, self.binarize, rng) if self.binarize == "threshold" else visible)
        if self.temperatures > 1 and not hasattr(energy, "free_energy"):
            raise InvalidOption(
                f"parallel tempering needs a tractable free energy, which {type(model).__name__} lacks; use chains"
            )
        if self.sparsity is not None and not hasattr(energy, "activity"):
            raise InvalidOption(f"a sparsity target needs one hidden layer; {type(model).__name__} has not; leave sparsity out")
        if self.sparsity is not None and not energy.hidden_units.binary:
            kind = type(energy.hidden_units).__name__
            raise InvalidOption(f"a sparsity target needs hidden units of 0 and 1, got {kind}; leave sparsity out")
        self.reference = energy.realise(visible[:_REFERENCE], self.binarize, rng)
        data = energy.clamp(self.reference, rng)
        self.layers = len(data)
        for number, values in enumerate(data):
            self.register_buffer(f"offset{number}", _mean(values))
        if self.persistent:
            state = energy.start(self.chains * self.temperatures, rng)
            with torch.autocast(inputs.device.type, enabled=False):
                self._keep(energy.advance(state, rng, _BURN_IN, self._betas[1] if self.temperatures > 1 else 1.0))

    @property
    def _betas(self) -> tuple[Tensor, Tensor]:
        """Inverse temperatures of a ladder, and that of each chain (rows, 1), one temperature after the other."""
        betas = torch.linspace(0, 1, self.temperatures, device=self.reference.device)
        return betas, betas.repeat_interleave(self.chains)[:, None]

    @property
    def persistent_chains(self) -> tuple[Tensor, ...]:
        """The chains as they stand, one tensor a layer; empty if they start at the data."""
        return tuple(self.get_buffer(f"chain{number}") for number in range(self.layers)) if self.persistent else ()

    def _keep(self, state: Sequence[Tensor]) -> None:
        for number, values in enumerate(state):
            self.register_buffer(f"chain{number}", values)

    def signals(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Iterator[Signal]:
        """One signal for the whole model."""
        energy = _energy_model(model)
        with energy.fixed():
            visible = energy.realise(energy.visible(batch.inputs), self.binarize, rng)
            gradients = self._gradients(energy, *self._phases(energy, visible, rng))
        if self.sparsity is not None:
            for name, gradient in self._sparsity_gradients(energy, visible).items():
                gradients[name] = gradients[name] + gradient
        yield Signal(follow(energy, gradients))

    def _phases(self, energy: Any, visible: Tensor, rng: torch.Generator) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """States of the data, and of the chains, to be held against each other."""
        if self.persistent:
            data = energy.clamp(visible, rng)
            return data, self._tempered(energy, rng) if self.temperatures > 1 else self._persistent(energy, rng)
        data, begun = energy.observe(visible, rng)
        return data, energy.dream(begun, rng, self.steps)[0]

    def _persistent(self, energy: Any, rng: torch.Generator) -> Sequence[Tensor]:
        expected, drawn = energy.dream(self.persistent_chains, rng, self.steps)
        self._keep(drawn)
        return expected

    def _tempered(self, energy: Any, rng: torch.Generator) -> Sequence[Tensor]:
        """Every ladder of chains moves, then neighbours swap by the rule of Metropolis; the chains at beta = 1 are used.

        The rule is that of p(v), so what is swapped is v alone: the hidden units, from which the next sweep begins, are drawn
        anew at the temperature at which v now stands.
        """
        betas, at = self._betas
        visible = energy.advance(self.persistent_chains, rng, self.steps, at)[0]
        inputs = energy.up(visible)  # of the hidden units, whatever the temperature
        ladders = [values.reshape(self.temperatures, self.chains, -1) for values in (visible, inputs)]
        order = swapped(energy, ladders[0], ladders[1], betas, rng)
        rows = (order * self.chains + torch.arange(self.chains, device=order.device)).flatten()
        visible, inputs = visible[rows], inputs[rows]
        self._keep((visible, energy.hidden_units.sample(at * inputs, rng, at)))
        return visible[-self.chains :], energy.hidden_units.mean(inputs[-self.chains :])

    def _sparsity_gradients(self, energy: Any, visible: Tensor) -> Mapping[str, Tensor]:
        """Gradient of the cross-entropy between the target and each unit's mean activity, summed over the units."""
        with torch.enable_grad():
            mean = energy.activity(visible).mean(0).clamp(1e-6, 1 - 1e-6)
            target = cast(float, self.sparsity)
            cost = -self.sparsity_cost * (target * mean.log() + (1 - target) * (1 - mean).log()).sum()
            named = {name: p for name, p in energy.named_parameters() if p.requires_grad}
            gradients = torch.autograd.grad(cost, list(named.values()), allow_unused=True)
        found = {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), gradients, strict=True)}
        if self.centre:
            energy.recentre(found, self._offsets)
        return found

    def _gradients(self, energy: Any, data: Sequence[Tensor], dreamt: Sequence[Tensor]) -> dict[str, Tensor]:
        """Gradients of the gap, centred if asked; the offsets of hidden layers follow the data."""
        if not self.centre or not energy.can_be_centred:
            return dict(energy.gap_gradients(data, dreamt))
        for number, values in enumerate(data[1:], start=1):
            self.get_buffer(f"offset{number}").lerp_(_mean(values), 1 - _MEMORY)
        return dict(energy.gap_gradients(data, dreamt, self._offsets))

    @property
    def _offsets(self) -> tuple[Tensor, ...]:
        return tuple(self.get_buffer(f"offset{number}") for number in range(self.layers))

    @torch.no_grad()
    def score(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Sums of: squared error of a mean-field reconstruction (a unit); if tractable free energy, pseudo-likelihood, nats."""
        energy = _energy_model(model)
        with torch.autocast(batch.inputs.device.type, enabled=False):  # a score is no place to round
            visible = energy.realise(energy.visible(batch.inputs), self.binarize, rng)
            (error,) = energy.per_unit((energy.mean_visible(energy.clamp(visible, rng)) - visible,))
            sums = {"reconstruction": error.square().mean(1).sum()}
            if hasattr(energy, "free_energy"):
                sums["free_energy"] = energy.free_energy(visible).sum()
                if getattr(energy, "is_flippable", False) and self.binarize != "none":
                    sums["pseudo_log_likelihood"] = pseudo_log_likelihood(energy, visible, rng).sum()
        return sums

    @torch.no_grad()
    def observe(self, model: nn.Module, rng: torch.Generator) -> Mapping[str, float]:
        """How well chains mix and differ, how many hidden units are dead or always on, and the free energy of some examples.

        `chains/mixing`: distance of a chain to itself 20 sweeps later, in units of the distance between chains: 1 where it has
        forgotten where it was, 0 where it stands still. `chains/diversity`: distance between chains in units of that between
        examples; both for two chains or more. `units/...`: shares of the hidden units, over training examples.
        """
        energy = _energy_model(model)
        data = energy.per_unit(energy.clamp(self.reference, rng))
        seen = idle_shares(data[1].float().mean(0)) if data[1].shape[1] else {}
        if hasattr(energy, "free_energy"):
            seen["train/free_energy"] = float(energy.free_energy(self.reference).mean())
        # Training may keep chains in the format of its products; here they meet weights in full precision.
        state = tuple(values[-self.chains :].to(self.reference.dtype) for values in self.persistent_chains)
        state = state or energy.begin_at(self.reference[: self.chains], rng)
        if len(state[0]) < 2:
            return seen  # one chain has no distance to another
        later = energy.advance(state, rng, _MIXING_SWEEPS)
        here, there = state[0].float(), later[0].float()
        between = float((there - there.roll(1, 0)).abs().mean())
        examples = float((self.reference - self.reference.roll(1, 0)).abs().mean())
        return seen | {
            "chains/mixing": float((there - here).abs().mean()) / max(between, 1e-9),
            "chains/diversity": between / max(examples, 1e-9),
        }

    @torch.no_grad()
    def conclude(self, model: nn.Module, splits: Mapping[str, Tensor], rng: torch.Generator) -> Mapping[str, float]:
        """Log-likelihood of each split, nats an example: exact where a layer is small enough to enumerate, or by annealing."""
        chains, temperatures = self.ais_chains, self.ais_temperatures
        energy = _energy_model(model)
        return log_likelihoods(energy, splits, self.binarize, rng, chains=chains, temperatures=temperatures)

    def snapshot(self, model: nn.Module, rng: torch.Generator) -> Mapping[str, Tensor]:
        """`samples`: means of the visible units of up to 40 chains, the persistent ones where there are any."""
        chains = tuple(values[-self.chains :] for values in self.persistent_chains)
        return {"samples": energy_portrait.dreams(_energy_model(model), chains, rng)}

    def portrait(self, model: nn.Module, splits: Mapping[str, Tensor], rng: torch.Generator) -> Mapping[str, Tensor]:
        """Samples, chains, reconstructions, completions, hidden units, weights, free energies (`energy_portrait.portrait`)."""
        return dict(energy_portrait.portrait(_energy_model(model), splits, self.binarize, rng))


def swapped(energy: Any, visible: Tensor, inputs: Tensor, betas: Tensor, rng: torch.Generator) -> Tensor:
    """Which chain stands at each temperature after swaps of neighbours, (temperatures, chains).

    States at betas a and b change places with probability min(1, p_a(y) p_b(x) / (p_a(x) p_b(y))); pairs begin at an even or an
    odd temperature by the toss of a coin.

    Args:
        energy: A model with a free energy.
        visible: (temperatures, chains, units).
        inputs: What the hidden units receive from these, (temperatures, chains, hidden).
        betas: Inverse temperatures, rising.
        rng: Draws.
    """
    count, chains, _ = visible.shape
    order = torch.arange(count, device=visible.device)[:, None].repeat(1, chains)
    first = int(torch.randint(2, (), generator=rng, device=rng.device))
    low = torch.arange(first, count - 1, 2, device=visible.device)
    if not len(low):
        return order

    def log_p(at: Tensor, of: Tensor) -> Tensor:
        rows = betas[at].repeat_interleave(chains)[:, None]
        return -energy.free_energy(visible[of].flatten(0, 1), rows, inputs[of].flatten(0, 1)).reshape(len(at), chains)

    high = low + 1
    ratio = log_p(low, high) + log_p(high, low) - log_p(low, low) - log_p(high, high)
    coin = torch.rand(ratio.shape, generator=rng, device=ratio.device, dtype=torch.float64)
    swap = coin.log() < ratio
    order[low], order[high] = torch.where(swap, high[:, None], low[:, None]), torch.where(swap, low[:, None], high[:, None])
    return order


def idle_shares(activity: Float[Tensor, " units"]) -> dict[str, float]:
    """Shares of units that are dead (mean activity below 0.01) and that are always on (above 0.99)."""
    return {
        "units/dead": float((activity < 0.01).double().mean()),
        "units/always_on": float((activity > 0.99).double().mean()),
    }


def _energy_model(model: nn.Module) -> Any:
    """The model, or its `machine` if it has one: a perceptron is trained by way of that which it will begin as."""
    energy = getattr(model, "machine", model)
    if not hasattr(energy, "gap_gradients"):
        raise InvalidModel(
            f"contrastive divergence got {type(model).__name__}; expected a model with an energy, for example rbm"
        )
    return energy


def _mean(values: Tensor) -> Tensor:
    return values.sum(0, dtype=torch.promote_types(values.dtype, torch.float32)) / len(values)

"""Markov chains with finitely many states: where they settle, how fast, and whether they do at all.

The next state depends on the present one only: P[i, j] is the probability of going from state i to state j, and a distribution
p (a row) becomes p P. A chain that can get from everywhere to everywhere has one stationary distribution, pi P = pi, and comes
to it from every start unless it visits its states in turn, that is unless it is periodic.

Source: Markov 1906, "Extension of the law of large numbers to quantities that depend on each other", Izv. Fiz.-Matem. Obsch.
Kazan. Univ. 15; Levin, Peres, Wilmer 2009, "Markov chains and mixing times", chapters 1, 4 and 12.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Sequence
from functools import cached_property

import torch
from jaxtyping import Complex, Float, Int, Num
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from deepforward.errors import InvalidData, InvalidOption, ShapeError

#: How far a sum of probabilities may be from 1.
ROUNDING = 1e-9


class MarkovChain:
    """A chain given by its transition probabilities, in float64.

    Attributes:
        transition: (states, states), row i the distribution of the state after state i; rows are divided by their sums.
        states: Name of each state.

    Args:
        transition: Non-negative, rows sum to 1 within 1e-9.
        states: Names; 0, 1, 2, ... if None.

    Raises:
        ShapeError: `transition` is not a square matrix, or there is not one name for each state.
        InvalidData: An entry is negative or not finite, or a row does not sum to 1.
        InvalidOption: Two states have one name.
    """

    def __init__(self, transition: Num[Tensor, "*shape"], states: Sequence[Hashable] | None = None) -> None:
        self.transition: Float[Tensor, "states states"] = _expect_stochastic(transition)
        self.states = tuple(range(len(self.transition)) if states is None else states)
        if len(self.states) != len(self.transition):
            got = f"{len(self.states)} names of {len(self.transition)} states"
            raise ShapeError(f"got {got}; expected one name for each state; add or remove names")
        self._index = {name: i for i, name in enumerate(self.states)}
        if len(self._index) != len(self.states):
            raise InvalidOption(f"got states {self.states}; expected no name twice; rename one")

    @classmethod
    def from_sequence(
        cls, *symbols: Sequence[Hashable], smoothing: float = 0.0, states: Sequence[Hashable] | None = None
    ) -> MarkovChain:
        """The chain under which observed sequences are likeliest: P[i, j] is the share of j among what followed i.

        With smoothing a, P[i, j] = (n_ij + a) / (n_i + a states), the mean of the posterior under a symmetric Dirichlet prior.

        Args:
            symbols: One or more sequences of states; nothing follows the last symbol of each.
            smoothing: a >= 0, in transitions.
            states: All states in order; those seen, sorted where they can be compared, if None.

        Raises:
            InvalidData: No transition, a symbol that is not a state, or a state that nothing followed and no smoothing.
            InvalidOption: `smoothing` is negative or not finite.
        """
        if not 0 <= smoothing < math.inf:
            raise InvalidOption(f"got smoothing = {smoothing}; expected a finite number >= 0; choose another")
        names = tuple(_seen(symbols) if states is None else states)
        index = {name: i for i, name in enumerate(names)}
        for symbol in (symbol for sequence in symbols for symbol in sequence):
            if symbol not in index:
                raise InvalidData(f"got symbol {symbol!r}; expected one of {names}; add it to the states")
        paths = [torch.tensor([index[symbol] for symbol in sequence], dtype=torch.int64) for sequence in symbols]
        pairs = torch.cat([path[:-1] * len(names) + path[1:] for path in paths if len(path) > 1] or [torch.empty(0).long()])
        if not len(pairs):
            raise InvalidData("got sequences without a transition; expected two symbols or more in one of them; observe longer")
        counts = pairs.bincount(minlength=len(names) ** 2).reshape(len(names), -1).double() + smoothing
        left = counts.sum(1)
        if not bool((left > 0).all()):
            name = names[int(left.argmin())]
            raise InvalidData(f"got nothing after state {name!r}; expected what follows each state; set smoothing above 0")
        return cls(counts / left[:, None], names)

    @cached_property
    def closed_classes(self) -> tuple[tuple[int, ...], ...]:
        """Sets of states that reach each other and never leave, as indices: each carries one stationary distribution.

        The states in none of them are transient, which the chain leaves for ever.
        """
        edges = self.transition.cpu() > 0
        labels = torch.from_numpy(connected_components(edges.numpy(), connection="strong")[1])
        leaves = (edges & (labels[:, None] != labels)).any(1)
        open_classes = labels[leaves].unique()
        classes = [labels == label for label in labels.unique() if label not in open_classes]
        return tuple(
            tuple(members.nonzero().flatten().tolist()) for members in sorted(classes, key=lambda m: int(m.int().argmax()))
        )

    @property
    def is_irreducible(self) -> bool:
        """Whether every state can be reached from every state."""
        return len(self.closed_classes[0]) == len(self.transition)

    @property
    def has_unique_stationary(self) -> bool:
        """Whether there is just one stationary distribution, that is just one closed class."""
        return len(self.closed_classes) == 1

    @cached_property
    def period(self) -> int:
        """Least d such that the distribution converges when looked at every d steps, whatever the start; 1 is aperiodic.

        Of an irreducible chain: the greatest common divisor of the lengths of all ways back to a state. In general the least
        common multiple of the periods of the closed classes.
        """
        return math.lcm(*(self._period_of(members) for members in self.closed_classes))

    def stationary_distributions(self) -> Float[Tensor, "classes states"]:
        """The stationary distribution of each closed class; every stationary distribution is a mixture of these.

        pi is the left eigenvector of the eigenvalue 1 of the class, which is simple there, periodic or not.
        """
        found = torch.zeros(len(self.closed_classes), len(self.transition), dtype=torch.float64, device=self.transition.device)
        for row, members in zip(found, self.closed_classes, strict=True):
            inside = self.transition[list(members)][:, list(members)]
            values, vectors = torch.linalg.eig(inside.T)
            vector = vectors[:, (values - 1).abs().argmin()]
            # The eigenvector comes with an arbitrary phase, which its sum carries: all entries of pi have one sign.
            row[list(members)] = (vector / vector.sum()).real.clamp(min=0)
        return found / found.sum(1, keepdim=True)

    def stationary(self) -> Float[Tensor, " states"]:
        """The stationary distribution pi P = pi, by the left eigenvector; a periodic chain has one too, but never settles.

        Raises:
            InvalidData: There are several; `stationary_distributions` gives them.
        """
        self._expect_one_class()
        return self.stationary_distributions()[0]

    def stationary_by_iteration(self, tolerance: float = 1e-12, max_steps: int = 100_000) -> Float[Tensor, " states"]:
        """The stationary distribution as the limit of p P^t from the uniform start.

        Args:
            tolerance: Ends when a step moves the distribution by no more, in total variation. What is left to go is then at
                most about tolerance / (1 - second eigenvalue).
            max_steps: Most steps.

        Raises:
            InvalidData: There are several stationary distributions, or the chain is periodic and need not converge.
            InvalidOption: `tolerance` was not reached.
        """
        self._expect_convergence()
        p = torch.full_like(self.transition[0], 1 / len(self.transition))
        for _ in range(max_steps):
            before, p = p, p @ self.transition
            if total_variation(before, p) <= tolerance:
                return p / p.sum()
        got = f"tolerance = {tolerance}, not reached in {max_steps} steps"
        raise InvalidOption(f"got {got}; expected one within reach; raise it or max_steps, or call stationary()")

    def eigenvalues(self) -> Complex[Tensor, " states"]:
        """Eigenvalues of the transition matrix, by falling modulus; the first is 1."""
        values = torch.linalg.eigvals(self.transition)
        # A real eigenvalue and its rounding must not trade places with a rotated one of modulus 1: 1 itself goes first.
        order = sorted(range(len(values)), key=lambda i: (-round(abs(values[i].item()), 12), abs(values[i].item() - 1)))
        return values[order]

    @property
    def second_eigenvalue(self) -> float:
        """Second largest modulus of an eigenvalue, by which the distance to the limit shrinks each step in the long run.

        1 if the chain does not converge to one limit; 0 for a single state.
        """
        moduli = self.eigenvalues().abs().tolist()
        return moduli[1] if len(moduli) > 1 else 0.0

    def mixing_time(self, epsilon: float = 0.25) -> int:
        """Least t with max_x TV(P^t(x, .), pi) <= epsilon, in steps (Levin, Peres, Wilmer 2009, section 4.5).

        The distance never rises with t, so that t is found by doubling and halving, with powers of P.

        Args:
            epsilon: Total variation distance in (0, 1].

        Raises:
            InvalidData: There are several stationary distributions, or the chain is periodic: it never mixes.
            InvalidOption: `epsilon` is outside (0, 1], or below what float64 can tell from 0.
        """
        if not 0 < epsilon <= 1:
            raise InvalidOption(f"got epsilon = {epsilon}; expected 0 < epsilon <= 1; choose a distance in that range")
        self._expect_convergence()
        pi = self.stationary()

        def far(power: Tensor) -> bool:
            return float(total_variation(power, pi).max()) > epsilon

        powers = [self.transition]  # P^1, P^2, P^4, ...
        while far(powers[-1]):
            if len(powers) > 50:
                raise InvalidOption(f"got epsilon = {epsilon}, not reached in 2^50 steps; expected one within reach; raise it")
            powers.append(_normalized(powers[-1] @ powers[-1]))
        reached, steps = torch.eye(len(pi), dtype=pi.dtype, device=pi.device), 0
        if not far(reached):
            return 0
        for k in reversed(range(len(powers) - 1)):  # the last t that is still far is the sum of these powers of 2
            ahead = _normalized(reached @ powers[k])
            if far(ahead):
                reached, steps = ahead, steps + 2**k
        return steps + 1

    def distribution(self, start: Tensor | Hashable, steps: int) -> Float[Tensor, " states"]:
        """Distribution of the state after `steps` steps, start P^steps.

        Args:
            start: Name of a state, or (states,) probabilities.
            steps: 0 or more.

        Raises:
            InvalidOption: No such state, or negative `steps`.
            ShapeError: `start` has not one probability for each state.
            InvalidData: `start` is not a distribution.
        """
        if steps < 0:
            raise InvalidOption(f"got steps = {steps}; expected 0 or more; choose another number")
        return _normalized(self._distribution_of(start) @ torch.linalg.matrix_power(self.transition, steps))

    def sample(
        self, steps: int, rng: torch.Generator, start: Tensor | Hashable | None = None, chains: int = 1
    ) -> Int[Tensor, "chains steps"]:
        """Independent walks, as indices of states.

        Args:
            steps: Length of each walk, the first state included; 1 or more.
            rng: Draws everything.
            start: Name of the first state, or its (states,) distribution; the stationary distribution if None.
            chains: Number of walks, 1 or more.

        Raises:
            InvalidOption: No such state, or `steps` or `chains` below 1.
            ShapeError: `start` has not one probability for each state.
            InvalidData: `start` is not a distribution, or is None and there is no unique stationary one.
        """
        if min(steps, chains) < 1:
            raise InvalidOption(f"got steps = {steps}, chains = {chains}; expected 1 or more of each; choose other numbers")
        first = self.stationary() if start is None else self._distribution_of(start)
        draws = torch.rand(steps, chains, 1, generator=rng, dtype=torch.float64, device=rng.device).to(first.device)
        rows = _thresholds(self.transition)
        walk = [torch.searchsorted(_thresholds(first[None]).expand(chains, -1).contiguous(), draws[0], right=True)[:, 0]]
        for draw in draws[1:]:
            walk.append(torch.searchsorted(rows[walk[-1]], draw, right=True)[:, 0])
        return torch.stack(walk, 1)

    def _distribution_of(self, start: Tensor | Hashable) -> Tensor:
        """`start` as a (states,) distribution."""
        if not isinstance(start, Tensor):
            if start not in self._index:
                raise InvalidOption(f"got start {start!r}; expected one of {self.states}; choose a state")
            return torch.eye(len(self.transition), dtype=torch.float64, device=self.transition.device)[self._index[start]]
        if start.shape != self.transition.shape[:1]:
            got = f"start of shape {tuple(start.shape)}"
            raise ShapeError(f"got {got}; expected ({len(self.transition)},), a probability for each state; reshape it")
        return _expect_probabilities("start", start[None])[0]

    def _period_of(self, members: tuple[int, ...]) -> int:
        """Greatest common divisor of the cycle lengths of a closed class, by distances from one of its states.

        Source: Jarvis and Shier 1999, "Graph-theoretic analysis of finite Markov chains": every edge (u, v) closes a cycle of
        length d(u) + 1 - d(v) up to multiples of the period.
        """
        ahead = {i: self.transition[i].nonzero().flatten().tolist() for i in members}
        distance, waiting, period = {members[0]: 0}, deque(members[:1]), 0
        while waiting:
            here = waiting.popleft()
            for there in ahead[here]:
                if there not in distance:
                    distance[there] = distance[here] + 1
                    waiting.append(there)
                period = math.gcd(period, distance[here] + 1 - distance[there])
        return period

    def _expect_one_class(self) -> None:
        if not self.has_unique_stationary:
            classes = " and ".join(str([self.states[i] for i in members]) for members in self.closed_classes[:4])
            raise InvalidData(
                f"got a chain with {len(self.closed_classes)} closed classes, {classes}; expected one, for a unique stationary "
                "distribution; call stationary_distributions()"
            )

    def _expect_convergence(self) -> None:
        self._expect_one_class()
        if self.period > 1:
            raise InvalidData(
                f"got a chain of period {self.period}, whose distribution goes in a circle; expected an aperiodic one; "
                "call stationary(), or mix in the identity, (P + I) / 2"
            )


def total_variation(p: Float[Tensor, "*batch states"], q: Float[Tensor, "*other states"]) -> Float[Tensor, "*batch"]:
    """Total variation distance max_A |p(A) - q(A)| = 1/2 sum |p - q|, in [0, 1]; `q` is broadcast to `p`."""
    return (p - q).abs().sum(-1) / 2


def _seen(symbols: Sequence[Sequence[Hashable]]) -> list[Hashable]:
    names = list(dict.fromkeys(symbol for sequence in symbols for symbol in sequence))
    try:
        return sorted(names)  # type: ignore[type-var]  # names that cannot be compared keep the order in which they came
    except TypeError:
        return names


def _expect_stochastic(transition: Tensor) -> Tensor:
    if transition.ndim != 2 or transition.shape[0] != transition.shape[1] or not len(transition):
        got = f"a transition matrix of shape {tuple(transition.shape)}"
        raise ShapeError(f"got {got}; expected (states, states) with a state or more; give one row and column for each state")
    return _expect_probabilities("row", transition)


def _expect_probabilities(place: str, rows: Tensor) -> Tensor:
    """Rows in float64, divided by their sums."""
    rows = rows.double()
    wrong = ~(rows.isfinite() & (rows >= 0))
    if bool(wrong.any()):
        i, j = wrong.nonzero()[0].tolist()
        raise InvalidData(f"got {rows[i, j].item()} in {place} {i}, column {j}; expected probabilities >= 0; correct it")
    sums = rows.sum(1)
    wrong = (sums - 1).abs() > ROUNDING
    if bool(wrong.any()):
        i = int(wrong.nonzero()[0])
        raise InvalidData(
            f"got {place} {i} with sum {sums[i].item()}; expected 1 within {ROUNDING:g}; divide it by its sum in float64"
        )
    return _normalized(rows)


def _normalized(p: Tensor) -> Tensor:
    """Rows divided by their sums, which rounding moves away from 1 a little with every product."""
    return p / p.sum(-1, keepdim=True)


def _thresholds(rows: Tensor) -> Tensor:
    """Cumulative sums; a uniform draw in [0, 1) belongs to the first state whose sum is above it.

    From the last possible state on, rounding must not leave the sum below 1: the draw would fall on an impossible state.
    """
    sums = rows.cumsum(1)
    return torch.where(sums >= sums[:, -1:], 1.0, sums)

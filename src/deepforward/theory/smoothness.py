"""Gradient descent under (L0, L1)-smoothness: clipped and normalised steps, their parameters, and their iteration bounds.

A twice differentiable f is (L0, L1)-smooth if |Hessian f(x)| <= L0 + L1 |grad f(x)|: it may bend more where it is steeper, as
the loss of a deep network does. Where the bound L is a constant, the step that minimises f(x) - h |g|^2 + L h^2 |g|^2 / 2 is
h = 1 / L; where L grows with |g|, the best step shrinks with |g|, which is what clipping does.

Source: Zhang, He, Sra, Jadbabaie 2020, "Why gradient clipping accelerates training", ICLR (arXiv 1905.11881), equations 5 and
6, theorems 3 and 6.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, overload

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import get_total_norm

from deepforward.errors import InvalidOption


def clipped_step(norm: Float[Tensor, "*shape"], lr: float | Tensor, gamma: float | Tensor) -> Float[Tensor, "*shape"]:
    """Step size of clipped gradient descent, h_c = min{lr, gamma lr / |g|}.

    Args:
        norm: Norm |g| of the gradient over all parameters.
        lr: The largest step size eta_c.
        gamma: Norm above which a gradient is shortened; no step is longer than gamma * lr.

    Source: Zhang et al. 2020, equation 5 (one overlay of the lecture omits gamma, E30).
    """
    return lr * (gamma / norm).clamp(max=1.0)


def normalized_step(norm: Float[Tensor, "*shape"], lr: float | Tensor, beta: float | Tensor) -> Float[Tensor, "*shape"]:
    """Step size of normalised gradient descent, h_n = lr / (|g| + beta).

    With lr = gamma eta_c and beta = gamma it is never longer than the clipped step and never shorter than half of it:
    h_c / 2 <= h_n <= h_c (the lecture prints the weaker h_n <= 2 h_c, E32).

    Args:
        norm: Norm |g| of the gradient over all parameters.
        lr: The length eta_n that a step approaches as the gradient grows.
        beta: Norm at which a step has half of that length.

    Source: Zhang et al. 2020, equation 6 (the lecture prints eta_c for eta_n, E31).
    """
    return lr / (norm + beta)


class _GlobalNormDescent(torch.optim.Optimizer):
    """x <- x - h(|g|) g, the norm taken over all parameters of all groups."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, which may have options of its own."""
        super().add_param_group(param_group)
        for name in self.defaults:
            _check_positive(name, param_group[name])

    @abstractmethod
    def _step_size(self, group: Mapping[str, Any], norm: Tensor) -> Tensor:
        """h, given the group's options and the global norm."""

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; parameters without a gradient stay where they are.

        Args:
            closure: Evaluates the model anew, calls backward, and returns the loss.

        Returns:
            What `closure` returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if gradients:
            norm = get_total_norm(gradients)
            for group in self.param_groups:
                _descend(group["params"], self._step_size(group, norm))
        return loss


class ClippedGD(_GlobalNormDescent):
    """Clipped gradient descent, x <- x - min{lr, gamma lr / |g|} g.

    The step size stays on the device: nothing waits for the norm to be read.

    Args:
        params: Parameters, or groups of them with their own `lr` and `gamma`; the norm is that of all groups together.
        lr: The largest step size eta_c.
        gamma: Norm above which the gradient is shortened.

    Raises:
        InvalidOption: `lr` or `gamma` is not a positive number.

    Source: Zhang et al. 2020, equation 5.
    """

    def __init__(self, params: Iterable[Any], lr: float = 0.1, gamma: float = 1.0) -> None:
        super().__init__(params, {"lr": lr, "gamma": gamma})

    def _step_size(self, group: Mapping[str, Any], norm: Tensor) -> Tensor:
        return clipped_step(norm, group["lr"], group["gamma"])


class NormalizedGD(_GlobalNormDescent):
    """Normalised gradient descent, x <- x - lr / (|g| + beta) g.

    Args:
        params: Parameters, or groups of them with their own `lr` and `beta`; the norm is that of all groups together.
        lr: The length eta_n that a step approaches as the gradient grows.
        beta: Norm at which a step has half of that length.

    Raises:
        InvalidOption: `lr` or `beta` is not a positive number.

    Source: Zhang et al. 2020, equation 6.
    """

    def __init__(self, params: Iterable[Any], lr: float = 0.1, beta: float = 1.0) -> None:
        super().__init__(params, {"lr": lr, "beta": beta})

    def _step_size(self, group: Mapping[str, Any], norm: Tensor) -> Tensor:
        return normalized_step(norm, group["lr"], group["beta"])


class Clipping(NamedTuple):
    """Parameters of clipped gradient descent: the largest step size `eta_c` and the norm `gamma` above which it shrinks."""

    eta_c: float
    gamma: float


def theorem_3_parameters(L0: float, L1: float) -> Clipping:
    """The parameters for which theorem 3 bounds clipped gradient descent on an (L0, L1)-smooth function.

    eta_c = 1 / (10 L0) and gamma = min{1 / eta_c, 1 / (10 L1 eta_c)}, so that no step is longer than min{1, 1 / (10 L1)}.

    Raises:
        InvalidOption: `L0` or `L1` is not a positive number.

    Source: Zhang et al. 2020, theorem 3. The lecture prints L0 for L1 in gamma (E37); with that, 1e-5 cosh(40 x) from x = 0.5
    oscillates for ever.
    """
    _check_positive("L0", L0)
    _check_positive("L1", L1)
    eta_c = 1 / (10 * L0)
    return Clipping(eta_c, min(1 / eta_c, 1 / (10 * L1 * eta_c)))


def clipped_iterations(L0: float, L1: float, gap: float, epsilon: float) -> float:
    """Iterations within which clipped gradient descent meets |grad f| <= epsilon.

    20 L0 gap / epsilon^2 + 20 max{1, L1^2} gap / L0.

    Args:
        L0: Bound of |Hessian| where the gradient vanishes.
        L1: Growth of that bound with |grad|.
        gap: f(x_0) - f*, in units of f.
        epsilon: Norm of the gradient that counts as stationary.

    Source: Zhang et al. 2020, theorem 3.
    """
    return 20 * L0 * gap / epsilon**2 + 20 * max(1.0, L1**2) * gap / L0


def theorem_6_step(L0: float, L1: float, M: float) -> float:
    """The fixed step size 1 / (2 (M L1 + L0)) for which theorem 6 bounds plain gradient descent.

    Args:
        L0: Bound of |Hessian| where the gradient vanishes.
        L1: Growth of that bound with |grad|.
        M: Largest norm of the gradient where f is at most f(x_0).

    Source: Zhang et al. 2020, theorem 6.
    """
    return 1 / (2 * (M * L1 + L0))


def descent_iterations(L0: float, L1: float, M: float, gap: float, epsilon: float) -> float:
    """Iterations within which plain gradient descent meets |grad f| <= epsilon: 4 (M L1 + L0) gap / epsilon^2.

    It grows with the steepest gradient M, which `clipped_iterations` does not know.

    Args:
        L0: Bound of |Hessian| where the gradient vanishes.
        L1: Growth of that bound with |grad|.
        M: Largest norm of the gradient where f is at most f(x_0).
        gap: f(x_0) - f*, in units of f.
        epsilon: Norm of the gradient that counts as stationary.

    Source: Zhang et al. 2020, theorem 6; the paper states the order, the constant follows from the descent lemma.
    """
    return 4 * (M * L1 + L0) * gap / epsilon**2


def largest_stable_rate(smoothness: float, momentum: float = 0.0, *, nesterov: bool = False) -> float:
    """The rate from which on gradient descent diverges on a quadratic of this curvature: 2 / L without momentum.

    With momentum m it is 2 (1 + m) / L, and with Nesterov's 2 (1 + m) / ((1 + 2 m) L).

    Args:
        smoothness: L, the largest curvature met.
        momentum: m in [0, 1), as torch.optim.SGD takes it.
        nesterov: Whether the momentum is Nesterov's.

    Raises:
        InvalidOption: `smoothness` is not a positive number, or `momentum` is outside [0, 1).

    Source: Polyak 1964, Some methods of speeding up the convergence of iteration methods; O'Donoghue and Candes 2015.
    """
    _check_positive("smoothness", smoothness)
    if not 0 <= momentum < 1:
        raise InvalidOption(f"got momentum = {momentum}; expected a number in [0, 1); choose another momentum")
    return 2 * (1 + momentum) / (smoothness * (1 + 2 * momentum if nesterov else 1))


def _descend(parameters: Iterable[Tensor], step_size: Tensor) -> None:
    by_device: defaultdict[torch.device, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for parameter in parameters:
        if parameter.grad is not None:
            by_device[parameter.device].append((parameter, parameter.grad))
    for device, pairs in by_device.items():
        moved, gradients = zip(*pairs, strict=True)
        torch._foreach_sub_(moved, torch._foreach_mul(gradients, step_size.to(device)))


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InvalidOption(f"got {name} = {value}; expected a positive finite number; choose another {name}")

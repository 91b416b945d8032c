import math

import pytest
import torch
from torch import nn

from deepforward.errors import InvalidOption
from deepforward.theory.smoothness import (
    ClippedGD,
    NormalizedGD,
    clipped_iterations,
    clipped_step,
    descent_iterations,
    largest_stable_rate,
    normalized_step,
    theorem_3_parameters,
    theorem_6_step,
)


def descend_slowly(groups, step_size):
    """x <- x - h(|g|) g, one scalar at a time."""
    square = sum(float(g) ** 2 for group in groups for p in group["params"] if p.grad is not None for g in p.grad.flatten())
    for group in groups:
        for p in group["params"]:
            if p.grad is not None:
                p.data = p.data - step_size(math.sqrt(square), group) * p.grad


@pytest.mark.parametrize(
    ("optimizer", "options", "step_size"),
    [
        (ClippedGD, {"lr": 0.3, "gamma": 2.0}, lambda n, o: min(o["lr"], o["gamma"] * o["lr"] / n)),
        (NormalizedGD, {"lr": 0.3, "beta": 2.0}, lambda n, o: o["lr"] / (n + o["beta"])),
    ],
)
def test_steps_equal_the_scalar_oracle(optimizer, options, step_size):
    rng = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (4,), (), (2, 1, 3)]
    fast = [nn.Parameter(torch.randn(shape, generator=rng, dtype=torch.float64)) for shape in shapes]
    slow = [nn.Parameter(p.detach().clone()) for p in fast]
    unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    ours = optimizer([{"params": [*fast[:2], unused]}, {"params": fast[2:], "lr": 0.05}], **options)
    theirs = [{"params": slow[:2], **options}, {"params": slow[2:], **options, "lr": 0.05}]
    for scale in (1e-3, 0.1, 1.0, 1e3):  # both sides of the threshold
        for p, q in zip(fast, slow, strict=True):
            p.grad = scale * torch.randn(p.shape, generator=rng, dtype=torch.float64)
            q.grad = p.grad.clone()
        ours.step()
        descend_slowly(theirs, step_size)
        for p, q in zip(fast, slow, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-14, atol=1e-14)  # sums of 23 squares in another order
    assert torch.equal(unused, torch.ones(2, dtype=torch.float64))


def iterations(f, start, optimizer, epsilon, cap=5000):
    x = torch.tensor([start], dtype=torch.float64, requires_grad=True)
    rule = optimizer([x])
    for n in range(cap):
        rule.zero_grad()
        f(x).sum().backward()
        if abs(x.grad.item()) <= epsilon:
            return n, x.item()
        rule.step()
    return cap, x.item()


@pytest.mark.parametrize(("start", "expected"), [(10.0, 1159), (30.0, 1359), (100.0, 2059)])
def test_clipped_descent_on_a_quartic_takes_the_published_number_of_steps(start, expected):
    L0, L1, epsilon = 16.0, 1.0, 0.01
    eta_c, gamma = theorem_3_parameters(L0, L1)
    taken, _ = iterations(lambda x: x**4, start, lambda p: ClippedGD(p, lr=eta_c, gamma=gamma), epsilon)
    assert taken == expected <= clipped_iterations(L0, L1, start**4, epsilon)


def test_plain_descent_on_the_same_quartic_is_47_times_slower():
    L0, L1, epsilon, x, taken = 16.0, 1.0, 0.01, 10.0, 0
    h = theorem_6_step(L0, L1, M=4 * x**3)
    while abs(4 * x**3) > epsilon:
        x, taken = x - h * 4 * x**3, taken + 1
    assert taken == 54489 <= descent_iterations(L0, L1, 4000.0, 1e4, epsilon)


def test_both_examples_are_as_smooth_as_their_parameters_say():
    x = torch.linspace(-100, 100, 200001, dtype=torch.float64)
    assert (12 * x**2 <= (16 + 4 * x.abs() ** 3) * (1 + 1e-15)).all()  # with equality at |x| = 2
    x = torch.linspace(-0.5, 0.5, 100001, dtype=torch.float64)
    bound = 0.016 + 40 * (4e-4 * torch.sinh(40 * x)).abs()
    assert (0.016 * torch.cosh(40 * x) <= bound * (1 + 1e-15)).all()  # with equality at 0


def test_the_lectures_gamma_oscillates_where_the_papers_converges():
    def f(x):
        return 1e-5 * torch.cosh(40 * x)

    L0, L1 = 0.016, 40.0
    eta_c, gamma = theorem_3_parameters(L0, L1)
    assert iterations(f, 0.5, lambda p: ClippedGD(p, lr=eta_c, gamma=gamma), 1e-6)[0] == 247
    printed = min(1 / eta_c, 1 / (10 * L0 * eta_c))
    taken, x = iterations(f, 0.5, lambda p: ClippedGD(p, lr=eta_c, gamma=printed), 1e-6, cap=1000)
    assert taken == 1000
    assert abs(x) == pytest.approx(0.5, abs=1e-9)


def test_normalised_steps_are_between_half_and_all_of_the_clipped_ones():
    rng = torch.Generator().manual_seed(0)
    norm, eta_c, gamma = (10 ** (12 * torch.rand(3, 10**6, generator=rng, dtype=torch.float64) - 6)).unbind()
    ratio = normalized_step(norm, gamma * eta_c, gamma) / clipped_step(norm, eta_c, gamma)
    rounding = 1e-15  # four operations of relative error 1.1e-16
    assert 0.5 - rounding <= ratio.min()
    assert ratio.max() <= 1 + rounding
    at_the_threshold = normalized_step(gamma, gamma * eta_c, gamma) / clipped_step(gamma, eta_c, gamma)
    torch.testing.assert_close(at_the_threshold, torch.full_like(gamma, 0.5), rtol=1e-15, atol=0)


@pytest.mark.parametrize("optimizer", [ClippedGD, NormalizedGD])
class TestAsTorchOptimizer:
    def test_a_step_never_reads_the_device(self, optimizer):
        """On the meta device there is nothing to read: a hidden synchronisation raises."""
        p = nn.Parameter(torch.empty(3, device="meta"))
        p.grad = torch.empty(3, device="meta")
        with pytest.raises(RuntimeError, match="meta"):
            float(p.grad.norm())
        before = p._version
        optimizer([p]).step()
        assert p._version > before  # the step was taken

    def test_a_zero_gradient_moves_nothing(self, optimizer):
        p = nn.Parameter(torch.ones(3))
        p.grad = torch.zeros(3)
        optimizer([p]).step()
        assert torch.equal(p, torch.ones(3))

    def test_no_gradient_at_all_is_no_step(self, optimizer):
        p = nn.Parameter(torch.ones(3))
        optimizer([p]).step()
        assert torch.equal(p, torch.ones(3))

    def test_state_survives_a_round_trip(self, optimizer):
        p = nn.Parameter(torch.ones(3))
        source, copy = optimizer([p], lr=0.7), optimizer([p], lr=0.1)
        copy.load_state_dict(source.state_dict())
        assert copy.param_groups == source.param_groups

    def test_schedules_change_the_rate(self, optimizer):
        p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        rule = optimizer([p], lr=1.0)
        schedule = torch.optim.lr_scheduler.StepLR(rule, step_size=1, gamma=0.1)
        moves = []
        for _ in range(2):
            before = p.item()
            p.grad = torch.full((1,), 3.0, dtype=torch.float64)
            rule.step()
            schedule.step()
            moves.append(before - p.item())
        assert moves[1] == pytest.approx(0.1 * moves[0], rel=1e-14)

    def test_a_closure_is_called_and_its_loss_returned(self, optimizer):
        p = nn.Parameter(torch.ones(3))
        rule = optimizer([p])

        def closure():
            rule.zero_grad()
            loss = p.square().sum()
            loss.backward()
            return loss.item()

        assert rule.step(closure) == 3.0
        assert (p < 1).all()

    @pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
    def test_senseless_options_are_refused(self, optimizer, bad):
        p = nn.Parameter(torch.ones(3))
        threshold = "gamma" if optimizer is ClippedGD else "beta"
        for options in ({"lr": bad}, {threshold: bad}):
            with pytest.raises(InvalidOption, match=f"got {next(iter(options))} = "):
                optimizer([p], **options)
            with pytest.raises(InvalidOption):
                optimizer([{"params": [p], **options}])


@pytest.mark.parametrize("bad", [(0.0, 1.0), (1.0, -1.0), (math.nan, 1.0)])
def test_smoothness_constants_must_be_positive(bad):
    with pytest.raises(InvalidOption):
        theorem_3_parameters(*bad)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(("factor", "stable"), [(0.98, True), (1.02, False)])
def test_the_largest_stable_rate_is_where_descent_on_a_quadratic_begins_to_grow(momentum, nesterov, factor, stable):
    curvature = 3.0
    x = nn.Parameter(torch.ones(1, dtype=torch.float64))
    rate = factor * largest_stable_rate(curvature, momentum, nesterov=nesterov)
    rule = torch.optim.SGD([x], lr=rate, momentum=momentum, nesterov=nesterov and momentum > 0)
    sizes = []
    for _ in range(2000):
        rule.zero_grad()
        (curvature / 2 * x.square()).sum().backward()
        rule.step()
        sizes.append(abs(x.item()))
    assert (max(sizes[-50:]) < 1) == stable


def test_a_rate_is_stable_for_positive_curvature_and_momentum_below_one_only():
    for bad in ((0.0, 0.0), (math.nan, 0.0), (1.0, 1.0), (1.0, -0.1)):
        with pytest.raises(InvalidOption):
            largest_stable_rate(*bad)

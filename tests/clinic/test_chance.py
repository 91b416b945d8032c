import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepforward import catalogue
from deepforward.clinic.chance import chance_level
from deepforward.data import Batch


class Constant(torch.nn.Module):
    """The same outputs whatever the input."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = torch.nn.Parameter(torch.zeros(outputs))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.outputs.expand(len(inputs), -1)


def best_constant(objective: str, options: dict[str, float], targets: torch.Tensor, outputs: int) -> float:
    """The lowest loss of a constant model, by minimising it."""
    model, signals = Constant(outputs), catalogue.load("objectives", objective)(**options).signals
    batch = Batch(torch.zeros(len(targets), 1), targets)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = next(iter(signals(model, batch, torch.Generator()))).loss
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    return closure()


@pytest.mark.parametrize(("objective", "options"), [("cross-entropy", {}), ("mse-one-hot", {}), ("mse-one-hot", {"low": 0.0})])
def test_the_chance_level_is_what_the_best_constant_model_reaches(objective, options):
    targets = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2])
    expected = best_constant(objective, options, targets, outputs=3)
    assert chance_level(objective, options, targets) == pytest.approx(expected, abs=1e-5)


def test_for_a_real_target_it_is_the_variance():
    targets = torch.tensor([1.0, 2.0, 4.0, 9.0])
    assert chance_level("squared-error", {}, targets) == pytest.approx(best_constant("squared-error", {}, targets, 1), rel=1e-6)


@given(classes=st.integers(2, 50), each=st.integers(1, 5))
def test_equal_classes_leave_the_logarithm_of_their_number(classes, each):
    targets = torch.arange(classes).repeat(each)
    assert chance_level("cross-entropy", {}, targets) == pytest.approx(torch.tensor(float(classes)).log().item(), rel=1e-6)


def test_an_objective_without_a_known_level_has_none():
    assert chance_level("contrastive-divergence", {}, torch.zeros(3)) is None

"""How a loss calls a model is seen whatever its arguments are, and what hides its layers is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepforward import catalogue
from deepforward.errors import InvalidModel
from deepforward.instruments import Examination
from deepforward.instruments.model_call import call_of, watching_ends

EXAMINATIONS = [card.name for card in catalogue.cards("instruments") if card.details.get("examination")]


def square(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().mean()


def draws(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


class Mixed(nn.Module):
    def forward(self, pair: tuple[Tensor, str], *, table: Tensor, mask: Tensor, scale: float) -> list[Any]:
        x, _ = pair
        x.add_(1)
        return [mask, (x @ table * scale).relu_()]


def test_arguments_are_kept_as_they_came_and_cut_by_example() -> None:
    x, table, mask = draws(4, 3), draws(3, 2), torch.tensor([True, False, True, True])

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return model((batch.clone(), "name"), mask=mask, table=table, scale=2.0)[1].sum()

    call = call_of(Mixed(), x, loss)
    name, inputs = call.inputs()
    assert name == "args[0]" and torch.equal(inputs, x)
    cut = call.rows(1, 2)
    assert torch.equal(cut.inputs()[1], x[1:2]) and cut.kwargs["mask"].shape == (1,) and cut.kwargs["table"].shape == (3, 2)
    torch.testing.assert_close(cut.again(Mixed())[1], call.again(Mixed())[1][1:2])
    assert torch.equal(call.inputs()[1], x), "the model adds to its argument in place"


def test_both_ends_of_a_stretch() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 4), nn.ReLU(inplace=True))
    with watching_ends(model, model[1], model[2]) as ends:
        model(draws(5, 3))
    z = model[0](draws(5, 3))
    assert torch.equal(ends.start, z) and ends.source == "input"
    torch.testing.assert_close(ends.end, model[2](z.relu()))
    (gradient,) = torch.autograd.grad(ends.end.sum(), ends.start)
    torch.testing.assert_close(gradient, (z > 0) * model[2].weight.sum(0))


@pytest.mark.parametrize("name", EXAMINATIONS)
def test_models_are_unwrapped(name: str) -> None:
    instrument = catalogue.load("instruments", name)()
    assert isinstance(instrument, Examination)
    model, batches = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), [draws(6, 3)]
    assert instrument.measure(nn.DataParallel(model), batches, square) == instrument.measure(model, batches, square)
    expected = instrument.measure(model, batches, square)
    assert instrument.measure(torch.compile(model, backend="eager"), batches, square) == expected
    model[1].compile(backend="eager")
    assert instrument.measure(model, batches, square) == expected
    with pytest.raises(InvalidModel, match="uninitialised"):
        instrument.measure(nn.LazyLinear(2), batches, square)


def test_a_loss_that_does_not_call_the_model_is_refused() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(InvalidModel, match="never calls Linear"):
        call_of(model, draws(4, 3), lambda m, x: nn.functional.linear(x, m.weight).sum())

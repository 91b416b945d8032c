"""A network that grows, trained by the engine."""

import pytest
import torch

from deepforward.data import Dataset, load
from deepforward.data.dataset import Batch
from deepforward.engine import Recipe, Run, fit
from deepforward.errors import InvalidModel
from deepforward.models.cresceptron import Cresceptron
from deepforward.objectives.growth import Growth

RNG = torch.Generator().manual_seed(0)


def test_a_batch_is_judged_by_what_others_have_taught_and_then_learnt():
    images, labels = torch.rand(4, 1, 8, 8, generator=RNG), torch.tensor([0, 1, 0, 1])
    network, objective = Cresceptron((1, 8, 8), 2), Growth()
    first = next(signals := objective.signals(network, Batch(images, labels), RNG))
    assert first.loss.item() == pytest.approx(torch.tensor(2.0).log().item())  # nothing is known: both classes alike
    assert network.planes == (0, 0, 0)
    assert next(signals, None) is None
    assert min(network.planes) > 0
    again = next(objective.signals(network, Batch(images, labels), RNG))
    responses = network.responses(images).flatten(1)
    assert (responses == 1).any()
    others = responses.where(responses < 1, 0.0)
    scores = torch.stack([others[:, network.labels == label].amax(1) for label in (0, 1)], 1)
    expected = -(network.log_sharpness.exp() * (scores - 1)).log_softmax(1)[torch.arange(4), labels].mean()
    assert again.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    again.loss.backward()
    assert network.log_sharpness.grad.abs() > 0
    assert objective.observe(network, RNG) == {
        "planes/level1": network.planes[0],
        "planes/level2": network.planes[1],
        "planes/top": network.planes[2],
    }


def test_a_network_that_cannot_grow_is_refused():
    with pytest.raises(InvalidModel, match="got a Linear, which does not grow; use the model cresceptron"):
        next(Growth().signals(torch.nn.Linear(2, 2), Batch(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64)), RNG))


def test_the_engine_grows_a_network_whose_run_is_opened_again(tmp_path):
    whole = load("digits")
    data = Dataset(whole.name, whole.train.spread(160), whole.test.spread(60), whole.classes)
    run = fit(Recipe(model="cresceptron", model_options={"levels": 1}, validation=0.0), tmp_path / "run", quiet=True, data=data)
    history = run.history
    assert len(history) == 2
    assert history[1]["planes/top"] >= history[0]["planes/top"] > 10
    assert run.metrics["test/accuracy"] > 0.5  # a tenth would be chance
    opened = Run.open(tmp_path / "run", data)
    parts = opened.parts()
    assert parts.model.planes == tuple(history[1][f"planes/{name}"] for name in ("level1", "top"))
    shown = parts.batch(parts.train)
    assert torch.equal(parts.model(shown.inputs).argmax(1), shown.targets)
    right = opened.evaluation().probabilities.argmax(1) == data.test.targets
    assert right.float().mean().item() == pytest.approx(run.metrics["test/accuracy"])

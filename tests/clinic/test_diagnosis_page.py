import math

import pytest
import torch
from torch import nn

from deepforward import Probe
from deepforward.clinic import CloseLook, case_of, conclude, diagnose, diagnosis_page, evidence_of_case, look_closely
from deepforward.report import Chart, Heading, render
from tests.instruments.hostile_modules import ResNet


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def tanh(depth: int = 12) -> nn.Sequential:
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(64, 64), nn.Tanh())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))


def headings(page) -> list[str]:
    return [block.text for block in page.blocks if isinstance(block, Heading)]


def chart(page, title: str) -> Chart:
    at = next(i for i, block in enumerate(page.blocks) if isinstance(block, Heading) and block.text == title)
    return next(block for block in page.blocks[at:] if isinstance(block, Chart))


def test_a_page_shows_the_gradient_the_phase_and_the_spectrum_that_the_module_has():
    model = tanh()
    case = case_of(model, "digits")
    diagnosis, look = conclude(evidence_of_case(case)), look_closely(case)
    page = diagnosis_page(diagnosis, look, "tanh", command="deepforward diagnose tanh")
    assert headings(page) == [
        "Gradient and signal along depth",
        "Order and chaos",
        "Spectrum of the Jacobian",
        "How alike examples become",
        "Smoothness of the loss",
        "Internal covariate shift",
        "Layer by layer",
        "How this was made",
    ]
    growth = [row for row in chart(page, headings(page)[0]).spec["data"]["values"] if row["series"] == "measured"]
    first, last = (diagnosis.evidence.readings.values["gradient_rms"][0, i] for i in (0, -1))
    decades = 2 * math.log10(first / last) + math.log10(64 / 10)  # of norms: the output has ten units
    assert growth[0]["y"] == pytest.approx(decades, abs=1e-3)  # five digits are drawn
    weights = torch.stack([layer.weight.detach() for layer in model if isinstance(layer, nn.Linear)][1:-1])
    picture = chart(page, "Order and chaos")
    (place,) = {
        row["w"] for layer in picture.spec["layer"] for row in layer.get("data", {}).get("values", ()) if "network" in row
    }
    assert place == pytest.approx(8 * float(weights.square().mean().sqrt()), rel=0.01)  # the output layer counts too
    row = case.batches[0][0]
    jacobian = torch.func.jacrev(model.eval())(_scaled()[row][None]).detach()[0, :, 0]
    values = [row["y"] for row in chart(page, "Spectrum of the Jacobian").spec["data"]["values"]]
    largest = float(torch.linalg.matrix_norm(jacobian.flatten(1), 2))
    assert values == sorted(values, reverse=True) and values[0] == pytest.approx(largest, rel=0.5)  # a mean of two examples
    assert diagnosis.findings[0].cause[1:] in render(page)


def _scaled() -> torch.Tensor:
    from deepforward.data import Scaling, load

    train = load("digits").train
    return Scaling.fit("standardise", train.inputs)(train.inputs)


def test_a_residual_network_has_blocks_instead_of_a_phase_picture():
    case = case_of(ResNet((4, 6), 1), "digits")
    page = diagnosis_page(conclude(evidence_of_case(case)), look_closely(case), "a network")
    assert "Residual blocks" in headings(page)
    assert page.blocks[0].sentence == "No rule finds anything wrong with this network."


def test_what_was_not_measured_has_no_section(tmp_path):
    model, inputs, targets = tanh(2), torch.randn(32, 64), torch.arange(32) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, optimizer=optimizer) as probe:
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    page = diagnosis_page(diagnose(probe, report=tmp_path / "page.html"), CloseLook(), "A network in training")
    assert headings(page) == ["Layer by layer", "How this was made"]
    assert (tmp_path / "page.html").read_text() == render(page)


def test_looking_closely_leaves_the_module_as_found(tmp_path):
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.ReLU(), nn.Linear(16, 10)
    ).eval()
    before, random = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    diagnose(model, "digits", report=tmp_path / "page.html")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state()) and not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())

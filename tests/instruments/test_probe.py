"""How the probe finds its way in somebody's loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deepforward.errors import InvalidModel, InvalidOption, ProbeWarning
from deepforward.instruments import GradientFlow, Probe, examine, gradient_norms


def small() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


BATCH = torch.linspace(-1, 1, 24).reshape(6, 4)


def test_five_lines_in_an_unchanged_loop() -> None:
    model = small()
    optimizer = torch.optim.Adam(model.parameters())
    with Probe(model, optimizer=optimizer) as probe:
        for _ in range(30):
            optimizer.zero_grad()
            model(BATCH).square().mean().backward()
            optimizer.step()
    readings = probe.readings()
    assert readings.steps[:6] == (0, 1, 2, 4, 8, 16) and probe.step == 30
    assert set(readings.values) == {
        "activation_rms", "gradient_rms", "parameter_gradient_norm", "parameter_rms", "update_ratio", "dead_share",
    }  # fmt: skip


def test_an_optimizer_tells_steps_apart_under_gradient_accumulation() -> None:
    """Two passes a step: the activations of the last, the gradient of both."""
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, GradientFlow(), optimizer=optimizer, budget=None) as probe:
        model(BATCH).square().mean().backward()
        model(3 * BATCH).square().mean().backward()
        total = float(gradient_norms(model[0].parameters(), precise=True).total)
        optimizer.step()
    readings = probe.readings()
    assert readings.layers == ("0#0", "1#0", "2#0") and readings.steps == (0,)
    expected = model[0](BATCH).detach()
    assert readings.values["parameter_gradient_norm"][0, 0] == pytest.approx(total, rel=1e-12)
    last = examine(small(), [3 * BATCH], lambda m, x: m(x).square().mean(), GradientFlow())
    assert readings.values["activation_rms"][0].tolist() == last.values["activation_rms"][0].tolist()
    assert expected.shape == (6, 8)


def test_submodules_driven_by_hand_are_seen() -> None:
    """A loop that never calls the model itself, as for a GAN."""
    model = nn.ModuleDict({"generator": nn.Linear(4, 4), "critic": nn.Linear(4, 1)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, optimizer=optimizer, budget=None) as probe:
        for _ in range(2):
            (model["critic"](model["generator"](BATCH)) - model["critic"](BATCH)).mean().backward()
            optimizer.step()
    readings = probe.readings()
    assert readings.steps == (0, 1) and readings.layers == ("generator#0", "critic#0", "critic#1")


def test_shared_norms_are_those_before_clipping() -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, optimizer=optimizer, budget=None) as probe:
        model(100 * BATCH).square().mean().backward()
        norms = gradient_norms(model.parameters(), precise=probe.sampling)
        probe.observe_gradients(norms)
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
    seen = probe.readings().values["parameter_gradient_norm"][0]
    assert seen[0] == pytest.approx(float(torch.stack(norms.each[:2]).norm()), rel=1e-12) and seen[0] > 1
    probe.observe_gradients(norms)  # outside a sampled step it does nothing


def test_gradient_norms_equal_those_of_torch() -> None:
    model = small()
    frozen = nn.Parameter(torch.ones(3))
    model(BATCH).square().mean().backward()
    norms = gradient_norms([frozen, *model.parameters()])
    assert norms.parameters == tuple(model.parameters())
    for parameter, norm in zip(norms.parameters, norms.each, strict=True):
        torch.testing.assert_close(norm, parameter.grad.norm())
    torch.testing.assert_close(norms.total, nn.utils.get_total_norm(p.grad for p in model.parameters()))
    assert gradient_norms([frozen]).parameters == () and float(gradient_norms([frozen]).total) == 0


def test_gradient_norms_of_a_sparse_gradient() -> None:
    embedding = nn.Embedding(10, 3, sparse=True)
    embedding(torch.tensor([1, 1, 4])).square().sum().backward()
    (norm,) = gradient_norms(embedding.parameters()).each
    torch.testing.assert_close(norm, embedding.weight.grad.to_dense().norm())


@pytest.mark.parametrize("how", ["wrapped", "in place"])
def test_a_compiled_model_is_announced_and_its_parameters_are_read(how: str) -> None:
    inner = small()
    if how == "wrapped":
        model = torch.compile(inner, backend="eager")
    else:
        inner.compile(backend="eager")
        model = inner
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(ProbeWarning, match="compiled"), Probe(model, optimizer=optimizer, budget=None) as probe:
        for _ in range(2):
            model(BATCH).square().mean().backward()
            optimizer.step()
    readings = probe.readings()
    assert readings.steps == (0, 1) and readings.layers == ("0#0", "2#0")
    assert set(readings.values) == {"parameter_gradient_norm", "parameter_rms", "update_ratio"}


def test_parameters_frozen_on_the_way_do_not_stop_the_probe() -> None:
    model = small()
    with Probe(model, GradientFlow(), budget=None) as probe:
        model(BATCH).sum().backward()
        model[0].requires_grad_(False)
        model.zero_grad()
        model(BATCH).sum().backward()
    seen = probe.readings().values["parameter_gradient_norm"]
    assert (seen[:, [0, 2]] > 0).tolist() == [[True, True], [False, True]]


def test_first_step_numbers_a_resumed_run() -> None:
    model = small()
    with Probe(model, budget=None, first_step=70) as probe:
        for _ in range(2):
            model(BATCH).sum().backward()
    assert probe.readings().steps == (70, 71)


def test_readings_on_the_way_do_not_change_what_is_sampled() -> None:
    """A record that was thinned while somebody looked slows sampling down as it does else."""
    seen = []
    for looks in (False, True):
        model = small()
        with Probe(model, budget=None, capacity=4) as probe:
            for _ in range(60):
                model(BATCH).sum().backward()
                if looks:
                    probe.readings()
        seen.append(probe.readings().steps)
    assert len(seen[0]) <= 4
    assert seen[0] == seen[1]


@pytest.mark.parametrize("options", [{"budget": 0.0}, {"budget": 1.5}, {"budget": float("nan")}, {"capacity": 1}, {"rows": 0}])
def test_numbers_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidOption, match="expected"):
        Probe(small(), **options)


def test_a_foreign_optimizer_is_refused() -> None:
    with pytest.raises(InvalidOption, match="no parameter of the model"):
        Probe(small(), optimizer=torch.optim.SGD(small().parameters(), lr=0.1))


def test_a_lazy_model_is_refused_until_it_is_initialised() -> None:
    with pytest.raises(InvalidModel, match="uninitialised"):
        Probe(nn.Sequential(nn.LazyLinear(3)))


def test_large_images_are_seen_by_their_first_rows() -> None:
    def rms_of_rows(rows: int | None) -> float:
        with Probe(nn.Sequential(nn.Conv2d(1, 1, 1, bias=False)), GradientFlow(), budget=None, rows=rows) as probe:
            probe.model[0].weight.data.fill_(1.0)
            probe.model(images).sum().backward()
        return float(probe.readings().values["activation_rms"][0, 0])

    images = torch.arange(40.0).reshape(40, 1, 1, 1)
    assert rms_of_rows(16) == pytest.approx(root_mean_square(images[:16])) != pytest.approx(root_mean_square(images))
    assert rms_of_rows(None) == pytest.approx(root_mean_square(images))


def root_mean_square(tensor: Tensor) -> float:
    return float(tensor.double().square().mean().sqrt())


def test_per_example_gradients_by_vmap_pass_unseen() -> None:
    model = small()

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, parameters, (x,)).square().mean()

    with Probe(model, budget=None) as probe:
        torch.func.vmap(torch.func.grad(loss), (None, 0))(dict(model.named_parameters()), BATCH)
    assert probe.readings().layers == ()

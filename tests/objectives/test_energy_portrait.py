"""What an energy-based model shows of itself, against the formulas written out."""

import pytest
import torch

from deepforward.errors import ShapeError, UnknownName
from deepforward.models.energy import RBM, BoltzmannMachine
from deepforward.objectives.energy_portrait import dreams, known_half, portrait

SHAPE = (1, 4, 3)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def machine(scale: float = 0.5, hidden: int = 5) -> RBM:
    torch.manual_seed(1)
    model = RBM(SHAPE, hidden=hidden, weight_scale=scale)
    torch.nn.init.normal_(model.hidden_units.bias)
    return model.eval()


@pytest.fixture
def splits():
    draws = rng(7)
    return {name: torch.rand(count, *SHAPE, generator=draws) for name, count in (("train", 30), ("test", 20))}


def test_names_shapes_and_the_same_bits_twice(splits):
    model = machine()
    shown = dict(portrait(model, splits, "stochastic", rng()))
    assert {name: tuple(values.shape) for name, values in shown.items()} == {
        "samples": (48, *SHAPE),
        "chains": (8, 10, *SHAPE),
        "reconstructions": (12, 2, *SHAPE),
        "completions": (12, 3, *SHAPE),
        "hidden_activity": (5,),
        "activity_map": (30, 5),
        "weights": (60,),
        "free_energy/train": (30,),
        "free_energy/test": (20,),
    }
    again = dict(portrait(model, splits, "stochastic", rng()))
    assert all(torch.equal(shown[name], again[name]) for name in shown)
    other = dict(portrait(model, splits, "stochastic", rng(1)))
    assert not torch.equal(shown["samples"], other["samples"])


def test_means_and_free_energies_are_those_of_the_formulas(splits):
    model = machine()
    shown = dict(portrait(model, splits, "threshold", rng()))
    W, b, c = (p.detach().double() for p in (model.weight, model.visible_units.bias, model.hidden_units.bias))
    v = {name: (inputs > 0.5).double().flatten(1) for name, inputs in splits.items()}
    h = {name: (x @ W + c).sigmoid() for name, x in v.items()}
    assert torch.allclose(shown["hidden_activity"].double(), h["train"].mean(0), atol=1e-6)
    assert torch.allclose(shown["activity_map"].double(), h["train"], atol=1e-6)
    example, reconstruction = shown["reconstructions"].double().flatten(2).unbind(1)
    assert torch.equal(example.float(), splits["test"][:12].flatten(1))
    assert torch.allclose(reconstruction, (h["test"][:12] @ W.t() + b).sigmoid(), atol=1e-6)
    for name in ("train", "test"):
        free = -(v[name] @ b) - torch.nn.functional.softplus(v[name] @ W + c).sum(1)
        assert torch.allclose(shown[f"free_energy/{name}"].double(), free, atol=1e-5)
    assert set(shown["weights"].tolist()) <= set(model.weight.flatten().tolist())


def test_a_chain_that_cannot_move_gives_a_row_of_one_image(splits):
    def spread(model):
        chains = dict(portrait(model, splits, "threshold", rng()))["chains"]
        return float((chains[:, 1:] - chains[:, :-1]).abs().mean())

    stuck = machine(hidden=1)
    with torch.no_grad():  # all ones or all zeros, and nearly no way between them: exp(-12 * 10)
        stuck.weight.fill_(20.0)
        stuck.visible_units.bias.fill_(-10.0)
        stuck.hidden_units.bias.fill_(-120.0)
    assert spread(stuck) < 1e-3
    assert spread(machine(2.0)) > 0.05


def test_the_lower_half_is_filled_in_from_the_upper(splits):
    tied = machine(hidden=1)
    with torch.no_grad():
        tied.weight.fill_(20.0)
        tied.visible_units.bias.fill_(-10.0)
        tied.hidden_units.bias.fill_(-120.0)
    expected = torch.stack((torch.ones(SHAPE), torch.zeros(SHAPE)))
    test = expected.clone()
    test[:, :, 2:] = 1 - test[:, :, 2:]  # the true lower half contradicts the model, so that a look at it would show
    shown = dict(portrait(tied, {"train": splits["train"], "test": test}, "threshold", rng()))["completions"]
    given, completed, whole = shown.unbind(1)
    assert torch.equal(given[:, :, :2], test[:, :, :2])
    assert (given[:, :, 2:] == 0.5).all()
    assert torch.allclose(completed, expected, atol=1e-3)
    assert torch.equal(whole, test)


def test_a_machine_of_visible_units_alone_shows_what_it_has(splits):
    shown = dict(portrait(BoltzmannMachine(SHAPE, hidden=0), splits, "stochastic", rng()))
    assert {"samples", "chains", "weights"} <= set(shown)
    assert not {"hidden_activity", "activity_map"} & set(shown)
    assert shown["weights"].abs().max() > 0


def test_persistent_chains_are_not_moved_and_others_are_begun():
    model = machine()
    chains = model.start(50, rng())
    draws = rng(5)
    before = draws.get_state()
    shown = dreams(model, tuple(values.bfloat16() for values in chains), draws)
    assert torch.equal(draws.get_state(), before)
    assert torch.equal(shown, model.mean_visible(chains)[:40].reshape(40, *SHAPE))
    assert dreams(model, (), rng()).shape == (40, *SHAPE)
    assert not torch.equal(dreams(model, (), rng()), dreams(model, (), rng(1)))


@pytest.mark.parametrize(("one", "other"), [("upper", "lower"), ("left", "right")])
def test_halves_complement_each_other_but_for_the_middle_of_an_odd_number(one, other):
    even, odd = (known_half(shape, one) + known_half(shape, other) for shape in ((3, 4, 6), (1, 5, 7)))
    assert (even == 1).all()
    middle = odd[0, 2] if one == "upper" else odd[0, :, 3]
    assert (middle == 0).all()
    assert odd.sum() == odd.numel() - len(middle)


def test_each_half_is_where_its_name_says():
    assert known_half((4, 4), "upper")[0].all()
    assert known_half((4, 4), "left")[:, 0].all()
    assert known_half((4, 4), "lower")[3].all()
    assert known_half((4, 4), "right")[:, 3].all()


def test_what_is_no_half_or_no_image_is_refused():
    with pytest.raises(UnknownName, match="did you mean upper"):
        known_half((4, 4), "uper")
    with pytest.raises(ShapeError, match=r"\(4,\); expected images"):
        known_half((4,), "upper")

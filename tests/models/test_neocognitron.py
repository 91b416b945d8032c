import itertools

import pytest
import torch

from deepforward.errors import InvalidData, InvalidOption, ShapeError
from deepforward.lecture.neocognitron import SHIFTS, organised, patterns, winners
from deepforward.models.neocognitron import Neocognitron

SIZES_OF_1980 = (16, 10, 8, 6, 2, 1)


def build(shape=(1, 16, 16), **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Neocognitron(shape, 5, **options)


def test_the_default_has_the_layout_and_the_constants_of_1980():
    model = build()
    assert model.sizes == tuple((size, size) for size in SIZES_OF_1980)
    layers = [layer for stage in model.stages for layer in (stage.s, stage.c)]
    said = itertools.chain(*model.responses(torch.rand(1, 1, 16, 16)))
    assert [tuple(x.shape[1:]) for x in said] == [(24, size, size) for size in SIZES_OF_1980]
    assert [layer.selectivity for layer in layers[::2]] == [4.0, 1.5, 1.5]
    assert [layer.reinforcement for layer in layers[::2]] == [1.0, 16.0, 16.0]
    assert {layer.saturation for layer in layers[1::2]} == {0.5}
    assert [tuple(layer.a.shape) for layer in layers[::2]] == [(24, 1, 5, 5), (24, 24, 5, 5), (24, 24, 5, 5)]
    assert [tuple(layer.d.shape) for layer in layers[1::2]] == [(5, 5), (5, 5), (2, 2)]


@pytest.mark.parametrize("size", [(28, 28), (9, 9), (9, 20), (17, 12), (33, 64)])
def test_other_sizes_and_numbers_of_planes_fit(size):
    model = build((1, *size), planes=(3, 4, 5))
    said = itertools.chain(*model.responses(torch.rand(2, 1, *size)))
    assert tuple(tuple(x.shape[2:]) for x in said) == model.sizes
    assert model(torch.rand(2, 1, *size)).shape == (2, 5)


@pytest.mark.parametrize("rng", [None, torch.Generator().manual_seed(0)], ids=["in turn", "in random orders"])
def test_five_patterns_get_five_planes_which_win_wherever_they_are(rng):
    network, shown = organised(rng), patterns()
    own, _ = winners(network, shown)
    assert -1 not in own
    assert len(set(own)) == 5
    for plane, pattern in zip(own, shown, strict=True):
        moved, _ = winners(network, torch.stack([pattern.roll(shift, (1, 2)) for shift in SHIFTS]))
        assert sum(other == plane for other in moved) >= 0.8 * len(SHIFTS)


def test_before_learning_patterns_have_no_planes_of_their_own():
    planes, said = winners(build(), patterns())
    assert len(set(planes)) < 5 or max(map(max, said)) < 1e-2


def test_organising_depends_on_the_generator_alone_and_moves_no_parameter():
    first, second, other = build(), build(), build()
    for model, seed in ((first, 1), (second, 1), (other, 2)):
        model.self_organise(patterns(), torch.Generator().manual_seed(seed), 20)
    before, states = build().state_dict(), [model.state_dict() for model in (first, second, other)]
    changed = {name for name in before if not torch.equal(before[name], states[0][name])}
    assert changed == {f"stages.{stage}.s.{name}" for stage in range(3) for name in "ab"}
    assert all(torch.equal(states[0][name], states[1][name]) for name in before)
    assert not torch.equal(states[0]["stages.0.s.a"], states[2]["stages.0.s.a"])
    assert {name for name, _ in first.named_parameters()} == {"output.weight", "output.bias"}


def test_every_pattern_is_shown_equally_often_and_silence_teaches_nothing():
    model = build(planes=(1, 1, 1))
    shown = torch.cat([patterns()[:1], torch.zeros(1, 1, 16, 16)])
    model.self_organise(shown, torch.Generator().manual_seed(0), 6)
    half_norm = model.stages[0].s.inhibition(shown[:1]).max() / 2
    assert 0 < model.stages[0].s.b.item() <= 3 * half_norm.item() * (1 + 1e-6)  # three of the six teach


def test_the_read_out_sees_the_stages_asked_for():
    inputs = torch.rand(2, 1, 16, 16)
    model = build(read_out=(3, 1, 3))
    c = [said.flatten(1) for _, said in model.responses(inputs)]
    assert torch.equal(model.features(inputs), torch.cat([c[0], c[2]], 1))


@pytest.mark.parametrize(
    ("shape", "said"),
    [((3, 32, 32), "colour images"), ((1, 8, 8), "at least 9x9"), ((64,), "expected .channels, height, width")],
)
def test_images_that_do_not_fit_are_refused_in_one_line(shape, said):
    with pytest.raises(ShapeError, match=said) as caught:
        Neocognitron(shape, 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", [lambda m, x: m(x), lambda m, x: m.self_organise(x, torch.Generator())])
def test_negative_values_are_refused_in_one_line(call):
    with pytest.raises(InvalidData, match=r"got a value of -0.25, expected at least 0.*; scale by min-max") as caught:
        call(build(), torch.full((2, 1, 16, 16), -0.25))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"planes": (24, 24)},
        {"planes": (24, 0, 24)},
        {"planes": (24, 2.5, 24)},
        {"selectivity": (4, 0, 1)},
        {"reinforcement": (1, 16)},
        {"saturation": 0},
        {"presentations": 0},
        {"read_out": ()},
        {"read_out": (4,)},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options, unchecked):
    with unchecked(), pytest.raises(InvalidOption, match=rf"neocognitron got {next(iter(options))}="):
        build(**options)

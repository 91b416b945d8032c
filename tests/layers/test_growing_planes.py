"""Growing planes against a loop over cells, and what growing must not change."""

import pytest
import torch

from deepforward.layers.growing_planes import GrowingPlanes

RNG = torch.Generator().manual_seed(0)
#: Activities below: three planes, some silent cells.
BELOW = (torch.rand(2, 3, 6, 5, generator=RNG) - 0.3).clamp(min=0)


def grown(match=0.6, below=BELOW, **options):
    planes = GrowingPlanes((3, 3), 2, padding=True, **options)
    planes.grow(below, match)
    return planes


def slowly(planes, below):
    """Every response by loops over images, planes, cells and connections, in float64."""
    margin = [size // 2 if planes.padding else 0 for size in planes.window]
    rows, columns = (below.shape[2 + axis] + 2 * margin[axis] - planes.window[axis] + 1 for axis in (0, 1))
    found = torch.zeros(len(below), len(planes), rows, columns, dtype=torch.float64)
    for image, plane, row, column in torch.cartesian_prod(*(torch.arange(size) for size in found.shape)).tolist():
        least = most = 0.0
        for connection in range(planes.templates.shape[1]):
            place = connection // planes.synapses
            i = row + place // planes.window[1] - margin[0]
            j = column + place % planes.window[1] - margin[1]
            t = planes.templates[plane, connection].item()
            if t > 0:
                inside = 0 <= i < below.shape[2] and 0 <= j < below.shape[3]
                x = below[image, planes.channels[plane, connection], i, j].item() if inside else 0.0
                least, most = least + min(x, t), most + max(x, t)
        found[image, plane, row, column] = least / most if most else 0.0
    return found


@pytest.mark.parametrize("padding", [True, False])
def test_responses_are_those_of_a_loop_over_cells(padding):
    planes = GrowingPlanes((3, 3), 2, padding=padding)
    planes.grow(BELOW[:1], 0.6)
    # 18 sums of numbers below 1 in float32, and a quotient.
    assert (planes(BELOW).double() - slowly(planes, BELOW)).abs().max() < 5e-6


def test_growing_is_taking_windows_in_order_and_giving_a_plane_to_the_first_that_none_matches():
    planes, expected = grown(below=BELOW[:1]), GrowingPlanes((3, 3), 2, padding=True)
    for window in expected.windows(BELOW[:1]).flatten(0, 1):
        responses = [expected.respond(window[None], plane).item() for plane in range(len(expected))]
        if max(responses, default=0.0) < 0.6:
            expected.add(window)
    assert 3 < len(planes) < 30
    assert torch.equal(planes.templates, expected.templates)
    assert torch.equal(planes.channels, expected.channels)


def test_a_template_holds_the_strongest_planes_of_each_place():
    planes = GrowingPlanes((1, 1), 2, padding=False)
    planes.add(torch.tensor([[0.2, 0.0, 0.9]]))
    assert planes.channels.tolist() == [[2, 0]]
    assert planes.templates.tolist() == [[pytest.approx(0.9), pytest.approx(0.2)]]
    # More below than in the template counts like less: 0.2 + 0.45 of 0.4 + 0.9.
    assert planes(torch.tensor([0.4, 1.0, 0.45]).view(1, 3, 1, 1)).item() == pytest.approx(0.65 / 1.3)


def test_every_window_is_matched_and_its_own_template_responds_with_one():
    planes = grown()
    responses = planes(BELOW)
    assert (responses.amax(1) >= 0.6).all()
    assert (responses <= 1).all()
    assert [bool((responses[:, plane] == 1).any()) for plane in range(len(planes))] == [True] * len(planes)


def test_what_is_shown_again_grows_nothing_and_what_grows_later_changes_nothing():
    planes = grown()
    before, count = planes(BELOW), len(planes)
    assert planes.grow(BELOW, 0.6) == 0
    more = torch.cat([BELOW.flip(1).flip(2), torch.rand(2, 4, 6, 5, generator=RNG)], 1)  # four more planes below
    assert planes.grow(more, 0.6) > 0
    wider = torch.cat([BELOW, torch.rand(2, 4, 6, 5, generator=RNG)], 1)
    assert torch.equal(planes(wider)[:, :count], before)


def test_an_image_gives_the_same_bits_alone_in_a_batch_and_as_windows():
    planes = grown()
    assert torch.equal(planes(BELOW)[1:], planes(BELOW[1:]))
    for plane in range(0, len(planes), 5):
        assert torch.equal(planes.respond(planes.windows(BELOW).flatten(0, 1), plane), planes(BELOW)[:, plane].flatten())


def test_a_state_with_more_or_fewer_planes_is_loaded_and_one_of_other_windows_is_not():
    planes, fewer = grown(), grown(0.2)
    assert len(fewer) < len(planes)
    state = {name: value.clone() for name, value in planes.state_dict().items()}
    for other in (GrowingPlanes((3, 3), 2, padding=True), fewer):
        other.load_state_dict(state)
        assert torch.equal(other(BELOW), planes(BELOW))
    with pytest.raises(RuntimeError, match="size mismatch"):
        GrowingPlanes((3, 3), 1, padding=True).load_state_dict(state)

"""The Cresceptron: growing, recalling, tolerating shifts, finding what was pasted, and being saved."""

import pytest
import torch

from deepforward.errors import InvalidData, InvalidOption, ShapeError
from deepforward.models.cresceptron import Cresceptron

SIZE = 16


def strokes(count=6, seed=0, size=SIZE):
    """White figures of random strokes on black, each of its own class."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, 1, size, size)
    for image in images[:, 0]:
        for _ in range(3):
            row, column, length = (int(torch.randint(2, size - 5, (), generator=rng)) for _ in range(3))
            if torch.rand((), generator=rng) < 0.5:
                image[row : row + 2, column : column + length] = 1
            else:
                image[row : row + length, column : column + 2] = 1
    margin = torch.zeros(size, size)
    margin[3:-3, 3:-3] = 1  # the edge of a figure at the border is none until it is pasted
    return images * margin


FIGURES, LABELS = strokes(), torch.arange(6) % 3


@pytest.fixture(scope="module")
def learnt():
    network = Cresceptron((1, SIZE, SIZE), 3)
    grown = network.learn(FIGURES, LABELS)
    assert grown == network.planes
    return network


def test_it_grows_recalls_all_and_grows_nothing_when_shown_again(learnt):
    assert min(learnt.planes) > 0
    assert torch.equal(learnt(FIGURES).argmax(1), LABELS)
    assert learnt.learn(FIGURES, LABELS) == (0, 0, 0)
    assert learnt.learn(FIGURES.flip(0), LABELS.flip(0)) == (0, 0, 0)
    assert learnt.growth[-1].tolist() == [len(FIGURES) * (len(learnt.growth)), *learnt.planes]


def test_images_learnt_later_change_no_earlier_response_to_the_bit():
    network = Cresceptron((1, SIZE, SIZE), 3)
    network.learn(FIGURES[:3], LABELS[:3])
    before, nodes = network.responses(FIGURES), len(network.top)
    # Three may share no node: each class has its own.
    assert nodes == 3
    assert (before[torch.arange(3), torch.arange(3)] == 1).all()
    assert sum(network.learn(strokes(8, seed=1), torch.arange(8) % 3)) > 0
    assert torch.equal(network.responses(FIGURES)[:, :nodes], before)


def test_a_node_that_wins_over_an_earlier_image_is_answered_by_another():
    # The second image lies between: at a low demand the first node of class 0 would do for the third, until class 1 grows.
    network = Cresceptron((1, SIZE, SIZE), 2, recognition=0.05)
    shifted = [FIGURES[:1], FIGURES[:1].roll(2, 3), FIGURES[:1].roll(1, 3)]
    images, labels = torch.cat([shifted[0], shifted[2], shifted[1]]), torch.tensor([0, 0, 1])
    network.learn(images, labels)
    assert torch.equal(network(images).argmax(1), labels)
    assert network.learn(images, labels) == (0, 0, 0)


def test_logits_are_the_strongest_node_of_each_class(learnt):
    responses = learnt.responses(FIGURES).flatten(2).amax(2)
    assert responses.shape == (6, len(learnt.top))
    for i, label in [(0, 0), (3, 1), (5, 2)]:
        own = [float(responses[i, n]) for n in range(len(learnt.top)) if learnt.labels[n] == label]
        expected = -learnt.log_sharpness.exp() * (1 - max(own))
        assert learnt(FIGURES)[i, label].item() == pytest.approx(expected.item(), abs=1e-5)
    empty = Cresceptron((1, SIZE, SIZE), 3)(FIGURES)
    assert torch.allclose(empty, -empty.new_tensor(3.0).exp().expand(6, 3))


def test_blurring_tolerates_shifts_that_a_network_without_it_does_not():
    shifts = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column]
    shifted = torch.cat([FIGURES.roll(shift, (2, 3)) for shift in shifts])
    right = {}
    for blur in (0.0, 0.7):
        network = Cresceptron((1, SIZE, SIZE), 3, blur=blur)
        network.learn(FIGURES, LABELS)
        right[blur] = (network(shifted).argmax(1) == LABELS.repeat(len(shifts))).float().mean().item()
    assert right[0.7] >= max(0.9, right[0.0] + 0.2)  # of 48; a third would be chance


def test_an_object_is_found_in_a_larger_image_and_outlined(learnt):
    scene = 0.02 * torch.rand(1, 30, 27, generator=torch.Generator().manual_seed(2))
    scene[:, 13 : 13 + SIZE, 6 : 6 + SIZE] += FIGURES[1]
    found = learnt.segment(scene)
    assert (found.label, found.window) == (1, (13, 6, SIZE, SIZE))
    assert learnt.segment(scene, 1).node == found.node
    inside = torch.zeros(30, 27, dtype=torch.bool)
    inside[13 : 13 + SIZE, 6 : 6 + SIZE] = True
    assert found.edges.any() and not (found.edges & ~inside).any()
    # The hull of the edges of a figure holds the figure, but for corners that smoothing cuts.
    figure = torch.zeros(30, 27, dtype=torch.bool)
    figure[inside] = FIGURES[1, 0].flatten() > 0
    assert (found.mask & figure).sum() >= 0.9 * figure.sum()
    assert not (found.edges & ~found.mask).any()
    whole = learnt.recognise(scene[None])
    assert whole.labels.tolist() == [1]
    assert (int(whole.rows), int(whole.columns), int(whole.nodes)) == (13, 6, found.node)


def test_a_grown_network_is_saved_and_loaded(learnt):
    state = {name: value.clone() for name, value in learnt.state_dict().items()}
    network = Cresceptron((1, SIZE, SIZE), 3)
    network.learn(strokes(2, seed=3), torch.tensor([0, 1]))
    network.load_state_dict(state)
    assert network.planes == learnt.planes
    assert torch.equal(network.growth, learnt.growth)
    assert torch.equal(network(FIGURES), learnt(FIGURES))
    assert network.learn(FIGURES, LABELS) == (0, 0, 0)


@pytest.mark.parametrize(
    ("images", "labels", "says"),
    [
        (torch.rand(2, 1, 20, 16), [0, 1], r"got images of shape \(1, 20, 16\); expected grey ones of \(1, 16, 16\)"),
        (torch.rand(2, 3, 16, 16), [0, 1], r"got images of shape \(3, 16, 16\); expected grey"),
        (torch.rand(2, 1, 16, 16), [0, 3], "got label 3; expected 0 to 2"),
        (torch.rand(2, 1, 16, 16), [0, -1], "got label -1; expected 0 to 2"),
        (torch.rand(2, 1, 16, 16), [0], "got 1 labels for 2 images"),
        (torch.rand(0, 1, 16, 16), [], "got no images to learn"),
        (torch.ones(2, 1, 16, 16), [0, 1], "each of one grey level"),
    ],
)
def test_what_cannot_be_learnt_is_refused_in_one_line(images, labels, says):
    with pytest.raises((ShapeError, InvalidData), match=says) as caught:
        Cresceptron((1, 16, 16), 3).learn(images, torch.tensor(labels, dtype=torch.int64))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_recognised_or_built_is_refused_in_one_line(learnt):
    with pytest.raises(ShapeError, match=r"got images of shape \(1, 15, 40\); expected grey ones of at least \(1, 16, 16\)"):
        learnt(torch.zeros(1, 1, 15, 40))
    with pytest.raises(InvalidData, match="has learnt nothing of class 7 yet"):
        learnt.segment(FIGURES[0], 7)
    with pytest.raises(InvalidData, match="has learnt nothing of anything yet"):
        Cresceptron((1, 16, 16), 2).recognise(FIGURES)
    with pytest.raises(InvalidData, match="has learnt nothing of anything yet"):
        Cresceptron((1, 16, 16), 2).segment(FIGURES[0])
    with pytest.raises(ShapeError, match="got images of 3 channels, expected 1; make them grey"):
        Cresceptron((3, 16, 16), 2)
    with pytest.raises(ShapeError, match="of at least 8x8 pixels"):
        Cresceptron((1, 7, 16), 2)
    for options in ({"levels": 0}, {"synapses": True}, {"match": 1.0}, {"recognition": 0.0}, {"blur": -0.1}):
        with pytest.raises(InvalidOption, match=f"cresceptron got {next(iter(options))}="):
            Cresceptron((1, 64, 64), 2, **options)

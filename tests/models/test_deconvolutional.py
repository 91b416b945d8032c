"""The deconvolutional network: its layers are sparse coders, and from any of them it comes down to the pixels."""

import pytest
import torch

from deepforward.engine import Recipe
from deepforward.errors import InvalidOption, ShapeError
from deepforward.layers.sparse_coding import sparse_code
from deepforward.layers.switched_pooling import pool, unpool
from deepforward.layers.synthesis import synthesise
from deepforward.models.deconvolutional import DeconvolutionalNetwork


def built(shape=(1, 8, 8), **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DeconvolutionalNetwork(shape, **({"maps": (3, 4), "kernels": (3, 3)} | options))


@pytest.fixture
def images():
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_layers_explain_the_pooled_maps_below_and_come_down_by_their_switches(images):
    model = built()
    first, second = (layer.unit_filters() for layer in model.layers)
    model.layers[0].measure(images)
    code = sparse_code(images, first, 10 / images.square().mean().mul(9).sqrt().item(), steps=20, tolerance=0)
    pooled, switches = pool(code.maps, 2)
    above = sparse_code(pooled, second, 10.0, steps=20, tolerance=0)
    assert torch.allclose(model.reconstruct(images, 1), code.fit, atol=1e-5)
    down = unpool(synthesise(above.maps, second), switches, (3, 10, 10), 2)
    assert torch.allclose(model.reconstruct(images), synthesise(down, first), atol=1e-4)
    assert torch.allclose(model.features(images), pool(above.maps, 2)[0].flatten(1), atol=1e-4)
    assert above.maps.count_nonzero() > 0
    assert torch.equal(model(images), model.features(images))


@torch.no_grad()
def test_a_perfect_code_above_gives_the_picture_of_the_layer_below(images):
    """With a large weight the second layer explains the pooled maps; without pooling the picture is then that of the first."""
    model = built(pool=1, steps=300)
    model.layers[1].weight = 1000.0
    one, two = model.reconstruct(images, 1), model.reconstruct(images, 2)
    assert (two - one).square().sum() < 1e-3 * one.square().sum()


def test_features_do_not_depend_on_the_rest_of_the_batch(images):
    model = built()
    with torch.no_grad():
        assert torch.allclose(model.features(images)[:1], model.features(images[:1]), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"pool": 1}, {"pool_maps": 2}, {"pool": 3, "pool_maps": 2}])
def test_atoms_are_pictures_of_single_units(options):
    """A unit in the middle of a large map, sent down with switches in the middle of blocks, adds the atom."""
    model = built((2, 30, 30), **options)
    lower, upper = model.layers
    groups, side, across = lower.output_shape[0], lower.pool, lower.pool_maps
    for k, atom in enumerate(model.atoms(2)):
        maps = torch.zeros(1, *upper.map_shape)
        maps[0, k, 5, 5] = 1
        switches = torch.full((1, groups, *lower.output_shape[1:]), (side // 2) * side + side // 2)
        picture = lower.down(unpool(upper.down(maps), switches, lower.map_shape, side, across))[0]
        assert torch.allclose(picture.square().sum(), atom.square().sum(), rtol=1e-4)
        top, left = (int(picture.abs().sum((0, axis)).nonzero()[0]) for axis in (2, 1))
        inner = [int(atom.abs().sum((0, axis)).nonzero()[0]) for axis in (2, 1)]
        rows, columns = atom.shape[1] - inner[0], atom.shape[2] - inner[1]
        cut = picture[:, top : top + rows, left : left + columns]
        assert torch.allclose(cut, atom[:, inner[0] :, inner[1] :], atol=1e-5)
    assert torch.equal(model.atoms(1), lower.unit_filters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maps": (3,)}, "got 1 maps and 2 kernels"),
        ({"maps": (3, 0)}, r"got maps=\(3, 0\)"),
        ({"kernels": ()}, r"got kernels=\(\)"),
        ({"weight": 0.0}, "weight=0.0"),
        ({"pool": 0}, "pool=0"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, message):
    with pytest.raises(InvalidOption, match=message) as caught:
        built(**options)
    assert "\n" not in str(caught.value)


def test_other_shapes_are_refused(images):
    with pytest.raises(ShapeError, match=r"layer 'stack\.0' got inputs of shape"):
        built()(images[:, :, 1:])
    with pytest.raises(ShapeError, match="model 'deconvolutional-network' got examples of shape"):
        built((64,))


def test_every_layer_but_the_highest_is_a_stage():
    recipe = Recipe(model="deconvolutional-network", model_options={"maps": [3, 4, 5], "kernels": [3, 3, 3]})
    assert [stage.objective_options for stage in recipe.complete().stages()] == [{"layer": 0}, {"layer": 1}]
    assert recipe.replace(objective_options={"layer": 0}).complete().pretraining == ()
    with pytest.raises(InvalidOption, match="got 2 maps and 1 kernels"):
        Recipe(model="deconvolutional-network", model_options={"maps": [3, 4], "kernels": [3]}).complete()

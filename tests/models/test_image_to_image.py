import pytest
import torch

from deepforward import fit
from deepforward.engine import Recipe
from deepforward.engine.building import build_model
from deepforward.errors import InvalidOption, ShapeError
from deepforward.models.image_to_image import DnCNN, FullyConvolutional, segmenter


def seen_by_the_centre(model, size=65):
    """Columns of the input that the centre's output depends on."""
    inputs = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0), requires_grad=True)
    model.double().eval()(inputs.double())[0, 0, size // 2, size // 2].backward()
    return inputs.grad[0, 0].abs().amax(0).nonzero().flatten().tolist()


@pytest.mark.parametrize(("build", "pixels"), [(FullyConvolutional, 17), (segmenter, 47)])
def test_a_pixel_sees_what_the_dilations_add_up_to(build, pixels):
    torch.manual_seed(0)
    assert seen_by_the_centre(build((1, 64, 64), 2, width=4)) == list(range(32 - pixels // 2, 33 + pixels // 2))


@pytest.mark.parametrize("name", ["denoiser", "edge-detector", "segmenter"])
def test_images_of_any_size_keep_it(name):
    model = build_model(name, {}, (3, 8, 8), 3).eval()
    for size in ((8, 8), (5, 17), (1, 1)):
        assert model(torch.zeros(2, 3, *size)).shape == (2, 3, *size)


def test_the_denoiser_subtracts_what_its_layers_give_and_begins_near_the_identity():
    torch.manual_seed(0)
    model, images = DnCNN((1, 16, 16), depth=5, width=8), torch.rand(3, 1, 16, 16)
    given = model(images)
    assert torch.equal(given, images - model.layers(images))
    assert (given - images).square().mean() < 0.1 * images.square().mean()


@pytest.mark.parametrize(
    "options", [{"depth": 1}, {"width": 0}, {"dilations": ()}, {"dilations": (0,)}, {"normalization": "no"}]
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(InvalidOption, match=next(iter(options))):
        FullyConvolutional((1, 8, 8), 2, **options)


def test_other_data_are_refused():
    with pytest.raises(ShapeError, match="model 'denoiser' got examples of shape"):
        DnCNN((7,))
    with pytest.raises(ShapeError, match=r"layer 'layers.conv1' got inputs of shape \(2, 3, 8, 8\), expected \(batch, 1"):
        FullyConvolutional((1, 8, 8), 2)(torch.zeros(2, 3, 8, 8))


def test_the_engine_trains_a_denoiser_and_reports_it(tmp_path):
    small = {"model_options": {"depth": 3, "width": 8}, "learning_rate": 1e-2, "epochs": 1, "device": "cpu", "threads": 1}
    run = fit(Recipe(model="denoiser", data="noisy-photographs?n=800&patch=16", **small), tmp_path / "run", quiet=True)
    test = run.data.test
    untouched = (test.inputs - test.targets).square().mean().item()
    assert run.metrics["test/loss"] < 0.7 * untouched  # it removes noise from photographs that it has not seen
    assert run.recipe.objective == "squared-error"
    assert "denoiser" in run.report().read_text()


def test_the_engine_trains_an_edge_detector(tmp_path):
    small = {"model_options": {"depth": 3, "width": 8}, "learning_rate": 1e-2, "epochs": 1, "device": "cpu", "threads": 1}
    run = fit(Recipe(model="edge-detector", data="photograph-edges?n=800&patch=16", **small), tmp_path / "run", quiet=True)
    edges = run.data.test.targets.float().mean().item()
    assert run.recipe.objective == "pixel-cross-entropy"
    assert run.metrics["test/mean_iou"] > (1 - edges) / 2 + 0.02  # that of finding no edge at all

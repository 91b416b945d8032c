import copy
import math

import pytest
import torch
from torch import nn

from deepforward.errors import InvalidData, InvalidModel
from deepforward.instruments import BatchNormEffect


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5)]
        return nn.Sequential(*layers, nn.Linear(5, 3)).double()


def batches(count=4, size=12, shift=0.0):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(size, 2, 6, 6, generator=rng, dtype=torch.float64) + shift for _ in range(count)]


def loss_of(model, inputs):
    return model(inputs).square().mean()


def test_population_statistics_are_those_of_torch_with_a_cumulative_mean():
    """torch's momentum=None averages means and unbiased variances over equal batches: Algorithm 2 (lecture.md A12)."""
    model, twin = network(), network()
    for module in twin.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    for inputs in batches():
        twin(inputs)
    twin.eval()
    measured = BatchNormEffect().measure(model, batches(), loss_of)
    assert measured.population_loss == pytest.approx(sum(loss_of(twin, x).item() for x in batches()) / 4, rel=1e-12)
    again = BatchNormEffect().measure(twin, batches(), loss_of)  # running statistics are the population's
    for layer in again.layers:
        assert layer.population_offset < 1e-12 and layer.population_log_ratio < 1e-12
        assert layer.batch_offset > 1e-3  # batches scatter about them
    assert again.eval_loss == pytest.approx(again.population_loss, rel=1e-12)


def test_distances_are_in_standard_deviations_of_the_running_statistics():
    model = nn.Sequential(nn.BatchNorm2d(2, eps=1e-30)).double()
    model[0].running_mean.copy_(torch.tensor([3.0, -4.0]))
    model[0].running_var.copy_(torch.tensor([4.0, 16.0]))
    inputs = batches(count=1, size=50)[0]
    mean, variance = inputs.mean((0, 2, 3)), inputs.var((0, 2, 3), correction=0)
    layer = BatchNormEffect().measure(model, [inputs], loss_of).layers[0]
    offsets = (mean - torch.tensor([3.0, -4.0])) / torch.tensor([2.0, 4.0])
    ratios = (variance.sqrt() / torch.tensor([2.0, 4.0])).log()
    assert layer.name == "0"
    assert layer.batch_offset == layer.population_offset == pytest.approx(offsets.square().mean().sqrt().item(), rel=1e-12)
    assert layer.batch_log_ratio == pytest.approx(ratios.square().mean().sqrt().item(), rel=1e-12)
    m = 50 * 36
    unbiased = (ratios + 0.5 * math.log(m / (m - 1))).square().mean().sqrt().item()
    assert layer.population_log_ratio == pytest.approx(unbiased, rel=1e-12)


def test_losses_are_those_of_training_and_use_and_dropout_stays_out():
    model = nn.Sequential(network(), nn.Dropout(0.5))
    for inputs in batches(shift=1.0):
        model(inputs)
    model.eval()
    plain, trained = copy.deepcopy(model), copy.deepcopy(model)
    trained[0].train()
    measured = BatchNormEffect().measure(model, batches(), loss_of)
    assert measured.eval_loss == pytest.approx(sum(loss_of(plain, x).item() for x in batches()) / 4, rel=1e-12)
    assert measured.train_loss == pytest.approx(sum(loss_of(trained, x).item() for x in batches()) / 4, rel=1e-12)
    assert abs(measured.population_loss - measured.train_loss) < abs(measured.eval_loss - measured.train_loss)


def test_what_has_no_statistics_is_refused():
    without = nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)).double()
    for model in (without, nn.Sequential(nn.Conv2d(2, 3, 3)).double()):
        with pytest.raises(InvalidModel, match="no batch normalisation"):
            BatchNormEffect().measure(model, batches(), loss_of)
    with pytest.raises(InvalidData, match="one value a channel"):
        BatchNormEffect().measure(network(), batches(size=1), loss_of)

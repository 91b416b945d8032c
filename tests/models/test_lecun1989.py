import itertools

import pytest
import torch
from torch import nn

from deepforward.models.lecun1989 import H2_SOURCES, LeCun1989, SharedKernels


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LeCun1989((1, 16, 16), 10).double()


def unit_by_unit(layer, inputs, sources_of):
    """The layer as the paper describes it: each unit sums its own connections; returns its maps and the connections counted."""
    maps, size = len(layer.bias), layer.size
    padded = nn.functional.pad(inputs, (2, 2, 2, 2), value=-1.0)
    result, connections = torch.zeros(len(inputs), maps, size, size, dtype=inputs.dtype), 0
    for m, i, j in itertools.product(range(maps), range(size), range(size)):
        seen = padded[:, sources_of(m), 2 * i : 2 * i + 5, 2 * j : 2 * j + 5].flatten(1)
        result[:, m, i, j] = layer.bias[m, i * size + j] + seen @ layer.weight[m]
        connections += 1 + seen.shape[1]
    return result, connections


def test_units_connections_and_values_agree_with_the_paper_unit_by_unit(model):
    inputs = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        h1, in_h1 = unit_by_unit(model.h1, inputs, lambda m: [0])
        h2, in_h2 = unit_by_unit(model.h2, h1.tanh(), lambda m: list(H2_SOURCES[m // 4]))
        h3 = model.h3(h2.tanh().flatten(1)).tanh()
        expected = model.output(h3).tanh()
        assert torch.allclose(model(inputs), expected, atol=1e-13)
    dense = sum(layer.weight.numel() + layer.bias.numel() for layer in (model.h3, model.output))
    assert in_h1 + in_h2 + dense == 64660
    assert inputs.numel() + h1.numel() + h2.numel() + h3.numel() + expected.numel() == 1256


def test_every_map_of_h1_feeds_eight_maps_of_h2_and_each_sees_eight():
    assert [len(set(group)) for group in H2_SOURCES] == [8, 8, 8]
    fed = [4 * sum(m in group for group in H2_SOURCES) for m in range(12)]
    assert fed == [8] * 12


def test_weights_start_within_the_bound_and_biases_at_zero(model):
    for layer, fan_in in ((model.h1, 25), (model.h2, 200), (model.h3, 192), (model.output, 30)):
        bound = 2.4 / fan_in**0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()


def test_batch_is_its_examples(model):
    inputs = torch.rand(5, 1, 16, 16, dtype=torch.float64)
    assert torch.allclose(model(inputs), torch.cat([model(x[None]) for x in inputs]), atol=1e-14)


def test_grouped_layer_equals_a_masked_convolution():
    layer = SharedKernels(H2_SOURCES, out_maps=12, size=4).double()
    inputs = torch.randn(3, 12, 8, 8, dtype=torch.float64)
    dense = torch.zeros(12, 12, 5, 5, dtype=torch.float64)
    for m in range(12):
        dense[m, list(H2_SOURCES[m // 4])] = layer.weight[m].detach().view(8, 5, 5)
    expected = nn.functional.conv2d(nn.functional.pad(inputs, (2, 2, 2, 2), value=-1.0), dense, stride=2)
    assert torch.allclose(layer(inputs), expected, atol=1e-13)

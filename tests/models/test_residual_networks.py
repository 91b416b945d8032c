import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepforward.errors import InvalidOption
from deepforward.models import count_parameters, residual
from deepforward.models.residual import ResidualNetwork

PUBLISHED = {20: 269722, 32: 464154, 44: 658586, 56: 853018, 110: 1727962}


@pytest.mark.parametrize("depth", PUBLISHED)
@pytest.mark.parametrize("family", ["resnet", "plain"])
def test_depth_counts_layers_with_weights(depth, family):
    model = getattr(residual, f"{family}{depth}")((3, 32, 32), 10)
    assert sum(isinstance(child, (nn.Conv2d, nn.Linear)) for child in model.modules()) == depth
    assert count_parameters(model) == PUBLISHED[depth]


@pytest.mark.parametrize("skips", [True, False])
def test_network_equals_a_functional_twin(skips):
    model = ResidualNetwork((2, 12, 10), 3, depth=14, residual=skips).double().eval()
    state = model.state_dict()
    for name, value in state.items():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    x = torch.randn(2, 2, 12, 10, dtype=torch.float64)

    def norm(h, name):
        m, v = state[f"{name}.running_mean"][:, None, None], state[f"{name}.running_var"][:, None, None]
        return (h - m) / (v + 1e-5).sqrt() * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]

    h = norm(F.conv2d(x, state["stem.conv.weight"], padding=1), "stem.norm").relu()
    for stage in (1, 2, 3):
        for block in range(2):
            at, stride = f"stage{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            f = norm(F.conv2d(h, state[f"{at}.conv1.weight"], stride=stride, padding=1), f"{at}.norm1").relu()
            f = norm(F.conv2d(f, state[f"{at}.conv2.weight"], padding=1), f"{at}.norm2")
            if skips:
                carried = torch.zeros_like(f)
                old = h[:, :, ::stride, ::stride]
                before = (f.shape[1] - old.shape[1]) // 2
                carried[:, before : before + old.shape[1]] = old
                f = f + carried
            h = f.relu()
    expected = h.mean((2, 3)) @ state["output.weight"].T + state["output.bias"]
    assert torch.allclose(model(x), expected, atol=1e-12)


def test_each_relu_is_a_module_of_its_own():
    calls = []
    model = residual.resnet20((1, 8, 8), 10)
    for name, child in model.named_modules():
        if isinstance(child, nn.ReLU):
            child.register_forward_hook(lambda *_, name=name: calls.append(name))
    model(torch.zeros(2, 1, 8, 8))
    assert len(calls) == len(set(calls)) == 19


@pytest.mark.parametrize("depth", [2, 7, 21, -4])
def test_depth_must_be_6n_plus_2(depth):
    with pytest.raises(InvalidOption, match=f"depth={depth}, expected 6n"):
        ResidualNetwork((1, 8, 8), 10, depth=depth)

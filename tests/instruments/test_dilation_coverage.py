"""The examination finds the stages of a model through its loss, and leaves no trace."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from deepforward.instruments.dilation_coverage import DilationCoverage


def test_stages_are_found_through_a_loss_and_the_model_is_left_as_found():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=2, dilation=2))
    model.append(nn.Conv2d(4, 3, 3, padding=2, dilation=2))
    model[0].requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = torch.randn(3, 1, 21, 21), torch.zeros(3, 10, 10, dtype=torch.long)
    found = DilationCoverage().measure(model, [batch], lambda m, pair: F.cross_entropy(m(pair[0]), pair[1]))
    (stage,) = found
    assert [layer.name for layer in stage.layers] == ["2", "3"]
    assert (stage.field, stage.coverage) == ((9, 9), 25 / 81)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model[0].parameters()] == [False, False]
    assert all(p.grad is None for p in model.parameters())

"""What a module is, for the wiring: affine, normalisation, or activation."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F

from deepforward.theory.mean_field import Elementwise

AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMALIZATION = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm),
)


def is_activation(module: nn.Module) -> bool:
    """Whether a module acts on each element alone and not affinely (ReLU, GELU, PReLU, a stranger's own).

    Args:
        module: Any module; it is copied, not touched.

    Returns:
        False for containers, dropout, the identity, softmax, normalisation and pooling.
    """
    learnt = sum(parameter.numel() for parameter in module.parameters())
    if (
        isinstance(module, (*AFFINE, *NORMALIZATION))
        or (learnt > 1 and not isinstance(module, nn.PReLU))
        or any(True for _ in module.children())
    ):
        return False
    grid = torch.linspace(-3.1, 2.9, 25, dtype=torch.float64)
    try:
        phi = elementwise(module)
        column, row = phi(grid[:, None]), phi(grid[None, :])
        single = torch.cat([phi(x[None, None]) for x in grid])
        return (
            column.shape == single.shape == (25, 1)
            and torch.allclose(column, single, atol=1e-12)
            and torch.allclose(row, column.T, atol=1e-12)
            and bool(column.flatten().diff(n=2).abs().max() > 1e-9)
        )
    except Exception:
        return False  # a stranger's module may refuse the probe in any way


def elementwise(module: nn.Module) -> Elementwise:
    """An activation module as a function in double precision that leaves its argument alone.

    PReLU with a slope for each channel gets one slope of the same mean square, which has the moments that criticality asks for.
    """
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        slope = float(module.weight.detach().double().square().mean().sqrt())
        return lambda x: F.leaky_relu(x, slope)
    twin = copy.deepcopy(module).eval().double()
    return lambda x: twin(x.clone())


def kind_of(module: nn.Module) -> str | None:
    """`affine`, `norm`, `activation`, or None for anything else."""
    if isinstance(module, AFFINE):
        return "affine"
    if isinstance(module, NORMALIZATION):
        return "norm"
    return "activation" if is_activation(module) else None

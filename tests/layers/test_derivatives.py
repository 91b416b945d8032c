import pytest
import torch

from deepforward.layers.activations import ACTIVATIONS, activation
from deepforward.layers.derivatives import DERIVATIVES, softmax_jacobian

#: Kinks included (0, 1, 3): there the derivative is torch's choice. Softplus of torch is x beyond 20.
x = torch.linspace(-8, 8, 257, dtype=torch.float64)


@pytest.mark.parametrize("name", DERIVATIVES)
def test_closed_derivative_is_that_of_autograd(name):
    z = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(activation(name).double()(z).sum(), z)
    # the constant 1/6 in torch's own kernel is rounded to float32
    assert torch.allclose(DERIVATIVES[name](x), slope, rtol=0, atol=1e-8 if name == "hard-sigmoid" else 1e-10)


def test_hard_sigmoid_to_double_precision():
    z = x[x.abs() != 3].requires_grad_()  # at its kinks clamp has the slope of its middle
    (slope,) = torch.autograd.grad((z / 6 + 0.5).clamp(0, 1).sum(), z)
    assert torch.allclose(DERIVATIVES["hard-sigmoid"](z), slope, rtol=0, atol=1e-10)


def test_all_but_the_noisy_are_written_out():
    assert [name for name in ACTIVATIONS if name not in DERIVATIVES] == ["noisy-hard-tanh", "noisy-hard-sigmoid"]


def test_the_slope_of_a_parametrised_rectifier_learns_from_negative_inputs():
    rectifier = activation("prelu").double()
    rectifier(x).sum().backward()
    assert float(rectifier.weight.grad) == pytest.approx(float(x.clamp(max=0).sum()), rel=1e-12)


@pytest.mark.parametrize("scale", [1.0, 30.0, 800.0])
def test_softmax_jacobian_is_that_of_autograd(scale):
    z = scale * torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(lambda v: torch.softmax(v, 0), z)
    assert torch.allclose(softmax_jacobian(z), expected, rtol=0, atol=1e-10)
    assert torch.allclose(softmax_jacobian(z).sum(0), torch.zeros(7, dtype=torch.float64), atol=1e-12)

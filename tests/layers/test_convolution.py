import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from deepforward.errors import InvalidData, InvalidOption, ShapeError
from deepforward.layers import convolution
from deepforward.layers.convolution import choose_method, convolve, correlate
from deepforward.layers.convolution_cost import convolution_costs
from deepforward.layers.separable import is_separable, separate

WAYS = ("direct", "separable", "fft")
sides = st.integers(1, 9)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def double_sum(kernel, image, size, border):
    """Equation (1) as it stands: the value at i, j of a sum over all entries of the kernel, the image known everywhere."""
    (tall, wide), (height, width) = kernel.shape, image.shape

    def mirrored(i, n):
        period = max(2 * n - 2, 1)
        return min(i % period, period - i % period)

    def pixel(i, j):
        if border == "reflect":
            return image[mirrored(i, height), mirrored(j, width)]
        return image[i, j] if 0 <= i < height and 0 <= j < width else 0.0

    tops = {"full": (0, height + tall - 1), "same": ((tall - 1) // 2,) * 2, "valid": (tall - 1, height)}[size]
    lefts = {"full": (0, width + wide - 1), "same": ((wide - 1) // 2,) * 2, "valid": (wide - 1, width)}[size]
    if size == "same":
        tops, lefts = (tops[0], tops[0] + height), (lefts[0], lefts[0] + width)
    rows = [
        [sum(kernel[k, m] * pixel(i - k, j - m) for k in range(tall) for m in range(wide)) for j in range(*lefts)]
        for i in range(*tops)
    ]
    return torch.tensor(rows, dtype=torch.float64)


@settings(deadline=None, max_examples=60)
@given(sides, sides, sides, sides, st.sampled_from(["same", "valid", "full"]), st.sampled_from(["zero", "reflect"]))
def test_every_way_is_the_double_sum(height, width, tall, wide, size, border):
    if size == "valid" or border == "reflect":
        tall, wide = min(tall, height), min(wide, width)
    image, kernel = random(height, width), random(tall, wide, seed=1)
    wanted = double_sum(kernel.numpy(), image.numpy(), size, border)
    for method in (*WAYS, "auto"):
        found = convolve(image, kernel, size=size, border=border, method=method)
        assert found.shape == wanted.shape
        assert torch.allclose(found, wanted, rtol=0, atol=1e-12)  # float64, sums of at most 81 products of order one


@pytest.mark.parametrize("size", ["same", "valid", "full"])
@pytest.mark.parametrize("radius", [1, 4, 8])
def test_scipy_agrees(radius, size):
    image, kernel = random(40, 53), random(2 * radius + 1, 2 * radius + 1, seed=1)
    convolved = torch.from_numpy(scipy.signal.convolve2d(image, kernel, mode=size))
    correlated = torch.from_numpy(scipy.signal.correlate2d(image, kernel, mode=size))
    for method in WAYS:
        assert torch.allclose(convolve(image, kernel, size=size, method=method), convolved, rtol=0, atol=1e-12)
        assert torch.allclose(correlate(image, kernel, size=size, method=method), correlated, rtol=0, atol=1e-12)


def test_torch_correlates():
    image, kernel = random(1, 1, 12, 12), random(5, 5, seed=1)
    torchs = torch.nn.functional.conv2d(image, kernel[None, None])
    assert torch.allclose(torchs, correlate(image, kernel, size="valid"), rtol=0, atol=1e-12)
    assert not torch.allclose(torchs, convolve(image, kernel, size="valid"), atol=0.1)


@pytest.mark.parametrize("method", WAYS)
def test_planes_are_convolved_alike_in_blocks_or_whole(method, monkeypatch):
    images, kernel = random(2, 3, 20, 17), random(4, 5, seed=1)
    wanted = torch.stack([convolve(plane, kernel, method=method) for plane in images.reshape(6, 20, 17)])
    for block in (100, 1000, 6000, 2**21):  # less than a row of 136 bytes, some rows, two planes, all
        monkeypatch.setattr(convolution, "BLOCK_BYTES", block)
        found = convolve(images, kernel, method=method)
        assert found.shape == images.shape
        # a decomposition and transforms of several planes round differently, in float64
        assert torch.allclose(found.reshape(6, 20, 17), wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", WAYS)
def test_float32_keeps_its_type_and_precision(method):
    image, kernel = random(40, 40, dtype=torch.float32), random(9, 9, seed=1)
    found = convolve(image, kernel, method=method)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), convolve(image.double(), kernel), atol=1e-4)  # 81 products: about 81 x 6e-8 x 9


@pytest.mark.parametrize("method", WAYS)
@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_gradients_pass(method, border):
    image, kernel = random(6, 7).requires_grad_(), random(3, 4, seed=1).requires_grad_(method != "separable")
    assert torch.autograd.gradcheck(lambda i, k: convolve(i, k, method=method, border=border), (image, kernel))


def test_a_kernel_that_learns_is_not_decomposed():
    image, kernel = random(256, 256), torch.outer(random(15), random(15, seed=2))
    assert choose_method(image, kernel) == "separable"
    assert choose_method(image, kernel.requires_grad_()) == "fft"


def test_the_rank_of_a_kernel_is_that_of_its_own_precision():
    image, kernel = random(512, 512), torch.outer(random(17), random(17, seed=1))
    assert separate(kernel.float().double()).rank > 1
    assert choose_method(image, kernel.float()) == choose_method(image, kernel) == "separable"
    assert torch.allclose(convolve(image, kernel.float()), convolve(image, kernel), atol=1e-4)  # 289 entries of float32


def test_the_choice_is_the_cheapest():
    image = random(512, 512, dtype=torch.float32)
    ones = torch.ones(65, 65)
    assert choose_method(image, ones[:1, :3]) == choose_method(image, random(3, 3)) == "direct"
    assert choose_method(image, ones[:17, :17]) == choose_method(image, ones[:9, :9]) == "separable"
    assert choose_method(image, random(17, 17)) == choose_method(image, ones) == "fft"
    two_terms = torch.outer(random(9), random(9, seed=1)) + torch.outer(random(9, seed=2), random(9, seed=3))
    assert separate(two_terms).rank == 2
    assert choose_method(image, two_terms.float()) == "separable"


def test_multiplications_are_counted():
    for radius, direct, separable in ((1, 9, 6), (4, 81, 18), (8, 289, 34)):
        costs = convolution_costs((2 * radius + 1,) * 2, (512, 512))
        assert (costs["direct"].multiplications, costs["separable"].multiplications) == (direct, separable)
    # 512 and an apron of 16 are 528, and 540 = 2^2 x 3^3 x 5 is the next fast length; N log2 N a transform, 2 N for the product
    n = 540**2
    assert costs["fft"].multiplications == pytest.approx(n * (3 * np.log2(n) + 2) / 512**2)
    assert convolution_costs((17, 17), (512, 512), rank=3)["separable"].multiplications == 3 * 34
    many = convolution_costs((17, 17), (512, 512), planes=100)["fft"].multiplications
    assert many == pytest.approx(n * (2.01 * np.log2(n) + 2) / 512**2)  # the kernel is transformed once


def test_estimates_grow_with_the_work():
    for dtype in (torch.float32, torch.float64):
        small = convolution_costs((9, 9), (64, 64), dtype=dtype)
        for more in (
            convolution_costs((17, 17), (64, 64), dtype=dtype),
            convolution_costs((9, 9), (128, 128), dtype=dtype),
            convolution_costs((9, 9), (64, 64), planes=5, dtype=dtype),
        ):
            assert all(more[way].seconds > small[way].seconds for way in WAYS)


@settings(deadline=None, max_examples=40)
@given(sides, sides, st.integers(1, 4), st.sampled_from([torch.float32, torch.float64]))
def test_separation_finds_the_rank_and_gives_the_kernel_back(tall, wide, terms, dtype):
    kernel = (random(tall, terms, seed=1) @ random(terms, wide, seed=2)).to(dtype)
    found = separate(kernel)
    assert found.rank == min(tall, wide, terms)
    eps = torch.finfo(dtype).eps
    assert torch.allclose(found.kernel(), kernel, rtol=0, atol=10 * eps * float(kernel.norm()))
    assert is_separable(kernel) == (min(tall, wide, terms) == 1)


def test_a_tolerance_leaves_out_small_terms():
    kernel = torch.diag(torch.tensor([1.0, 0.1, 0.001], dtype=torch.float64))
    assert [separate(kernel, tolerance).rank for tolerance in (0.0, 0.01, 0.5)] == [3, 2, 1]
    assert torch.linalg.matrix_norm(kernel - separate(kernel, 0.01).kernel(), 2) == pytest.approx(0.001)  # Eckart and Young
    assert separate(torch.zeros(3, 3)).kernel().count_nonzero() == 0


def test_kernels_of_image_processing():
    sobel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    laplacian = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
    x = torch.arange(-8.0, 9)
    assert is_separable(sobel)
    assert is_separable(torch.exp(-(x[:, None] ** 2 + x**2) / 18))
    assert separate(laplacian).rank == 2


@pytest.mark.parametrize(
    ("error", "image", "kernel", "options", "says"),
    [
        (ShapeError, (4, 4), (5, 5), {"size": "valid"}, "no smaller than the kernel"),
        (ShapeError, (4, 4), (9, 9), {"border": "reflect"}, "to mirror"),
        (ShapeError, (4, 4), (5, 5), {"border": "reflect", "size": "full"}, "to mirror"),
        (ShapeError, (0, 4), (3, 3), {}, "none of them 0"),
        (ShapeError, (0, 4, 4), (3, 3), {}, "none of them 0"),
        (InvalidOption, (4, 4), (3, 3), {"method": "winograd"}, "method 'winograd'"),
        (InvalidOption, (4, 4), (3, 3), {"size": "some"}, "size 'some'"),
        (InvalidOption, (4, 4), (3, 3), {"border": "wrap"}, "border 'wrap'"),
    ],
)
def test_one_clear_line(error, image, kernel, options, says, unchecked):
    with unchecked(), pytest.raises(error, match=says) as caught:
        convolve(torch.zeros(image), torch.zeros(kernel), **options)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_convolved(unchecked):
    with unchecked():
        with pytest.raises(InvalidData, match="uint8"):
            convolve(torch.zeros(4, 4, dtype=torch.uint8), torch.ones(3, 3))
        with pytest.raises(ShapeError, match="kernel of shape"):
            convolve(torch.zeros(4, 4), torch.ones(1, 3, 3))
        with pytest.raises(InvalidOption, match="needs a gradient"):
            convolve(torch.zeros(4, 4), torch.ones(3, 3, requires_grad=True), method="separable")
        with pytest.raises(InvalidOption, match="tolerance"):
            separate(torch.ones(3, 3), 1.0)


@pytest.mark.parametrize(("method", "wanted"), [("direct", 289), ("separable", 34)])
def test_as_many_passes_as_multiplications_are_counted(method, wanted):
    class Passes(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += function in (torch.ops.aten.add_.Tensor, torch.ops.aten.mul.out)
            return function(*args, **(kwargs or {}))

    kernel = torch.outer(random(17), random(17, seed=1))
    with Passes() as passes:
        convolve(random(32, 32), kernel, method=method)
    assert passes.count == wanted == convolution_costs((17, 17), (32, 32))[method].multiplications

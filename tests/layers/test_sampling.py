"""Binary units: random words against a slow Philox, sigmoid and softplus against float64, draws by statistics."""

import math

import numpy as np
import pytest
import torch

from deepforward.errors import InvalidOption
from deepforward.layers import compilation, sampling
from deepforward.layers.sampling import bernoulli, draw_key, sample_sigmoid, softplus_sums

KEY = 0x123456789ABCDEF
KINDS = [torch.float32, torch.bfloat16]
WORDS = 2**32


@pytest.fixture(scope="module", autouse=True)
def built(tmp_path_factory):
    """The kernel, compiled into an empty cache; None where there is no compiler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("CXX", raising=False)
        forget()
        yield sampling.kernel()
    forget()


def forget():
    compilation.compiled.cache_clear()
    sampling.kernel.cache_clear()


@pytest.fixture
def compiled(built):
    if built is None:
        pytest.skip("needs a C++ compiler")


@pytest.fixture(params=["kernel", "fallback"])
def either(request, built, monkeypatch):
    """Runs a test with the kernel and without."""
    if request.param == "fallback":
        monkeypatch.setattr(sampling, "kernel", lambda: None)
    elif built is None:
        pytest.skip("needs a C++ compiler")
    return request.param


def philox(counters, key):
    """Philox4x32-10 as the paper writes it: counters [..., 4] and two words of key, all as uint64."""
    c = [np.asarray(counters, np.uint64)[..., i] for i in range(4)]
    k = [int(word) for word in key]
    low, half = np.uint64(WORDS - 1), np.uint64(32)
    for _ in range(10):
        first, second = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(second >> half) ^ c[1] ^ np.uint64(k[0]), second & low, (first >> half) ^ c[3] ^ np.uint64(k[1]), first & low]
        k = [(k[0] + 0x9E3779B9) % WORDS, (k[1] + 0xBB67AE85) % WORDS]
    return np.stack(c, -1)


def uniform(rows, columns, key):
    """The words that the kernel's layout gives to the units."""
    r, c = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    counters = np.stack([16 * (c // 64) + c % 16, r, 0 * r, 0 * r], -1)
    words = philox(counters, (key % WORDS, key >> 32))
    return np.take_along_axis(words, (c % 64 // 16)[..., None], -1)[..., 0]


def normal(*shape, seed=0, scale=3.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact(inputs, bias=0.0):
    """Sigmoid in float64 of the argument in float32."""
    return torch.sigmoid((inputs.float() + bias).double())


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([WORDS - 1] * 4, [WORDS - 1] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_slow_philox_gives_the_known_answers_of_random123(counter, key, words):
    assert philox(counter, key).tolist() == [int(word, 16) for word in words.split()]


@pytest.mark.parametrize("key", [0, 1, KEY, 2**63 - 1])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 64), (131, 200), (2, 1037), (300, 15)])
def test_the_kernel_draws_by_philox_words_to_the_last_bit(compiled, rows, columns, key):
    words = uniform(rows, columns, key)
    above = np.nextafter((words / WORDS).astype(np.float32), np.float32(2))
    above = np.where(above.astype(np.float64) * WORDS < words + 1, words + 1, above.astype(np.float64) * WORDS)
    for thresholds, expected in ((above, 1), (np.nextafter(words.astype(np.float32), np.float32(-1)), 0)):
        p = torch.from_numpy((np.maximum(thresholds, 0) / WORDS).astype(np.float32))
        limits = np.floor(p.numpy().astype(np.float64) * WORDS + 0.5)
        drawn = bernoulli(p, key).numpy()
        assert np.array_equal(drawn, words < limits)
        if expected:
            assert drawn.all()
        else:
            assert drawn.mean() < 0.01  # below 2^24 half a word is rounded up


def test_thresholds_are_rounded_to_the_nearest_word(compiled):
    words = uniform(200, 200, KEY)
    row, column = np.unravel_index(words.argmin(), words.shape)
    for part, expected in ((0.4, 0), (0.6, 1)):
        p = torch.full((200, 200), (float(words.min()) + part) / WORDS)
        assert bernoulli(p, KEY)[row, column] == expected


def test_draws_follow_the_probabilities_that_are_written(compiled):
    inputs, p, samples = normal(70, 130), torch.empty(70, 130), torch.empty(70, 130)
    sample_sigmoid(inputs, normal(130, seed=1), KEY, probabilities=p, samples=samples)
    thresholds = np.floor(p.double().numpy() * WORDS + 0.5)
    assert np.array_equal(samples.numpy(), uniform(70, 130, KEY) < thresholds)


def test_the_number_of_threads_changes_no_bit(compiled):
    inputs, results = normal(400, 200), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            p, samples = torch.empty(400, 200), torch.empty(400, 200)
            sample_sigmoid(inputs, None, KEY, probabilities=p, samples=samples)
            results.append((p, samples, bernoulli(p, KEY), softplus_sums(inputs, None)))
        finally:
            torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("p", [1e-2, 1e-3, 1e-5, 0.3, 1 - 1e-3])
@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_come_out_right_however_small(either, p, kind):
    rows, columns, draws = 1000, 1000, 4
    inputs = torch.full((rows, columns), math.log(p / (1 - p))).to(kind)
    p, samples, ones = float(exact(inputs[:1, :1])), torch.empty(rows, columns, dtype=kind), 0.0
    for key in range(KEY, KEY + draws):
        sample_sigmoid(inputs, None, key, samples=samples)
        ones += float(samples.double().sum())
    n = draws * rows * columns
    assert abs(ones - n * p) < 4.5 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("kind", KINDS)
def test_every_unit_is_drawn_apart_from_its_neighbours(either, kind):
    # A correlation of n independent pairs of +-1 has the standard error 1 / sqrt(n). Two distances across rows, and those
    # across columns at which one counter or one word would repeat.
    signs = 2 * bernoulli(torch.full((512, 512), 0.5, dtype=kind), KEY).float() - 1
    for down, right in [(0, 1), (0, 8), (0, 16), (0, 32), (0, 64), (1, 0), (2, 0), (1, 1), (128, 0)]:
        pairs = signs[down:, right:] * signs[: 512 - down, : 512 - right]
        assert abs(float(pairs.mean())) < 4.5 / math.sqrt(pairs.numel())
    assert float(signs.mean(0).var()) == pytest.approx(1 / 512, rel=4.5 * math.sqrt(2 / 512))


def test_a_key_repeats_its_draws_and_another_gives_others(either):
    p = torch.full((40, 50), 0.5)
    first, again = bernoulli(p, KEY), bernoulli(p, KEY)
    assert torch.equal(first, again)
    for other in (KEY + 1, KEY ^ (1 << 62), KEY ^ (1 << 32)):
        differing = float((bernoulli(p, other) != first).float().mean())
        assert abs(differing - 0.5) < 4.5 * 0.5 / math.sqrt(2000)


def test_keys_have_63_bits_and_come_from_the_generator():
    rng = torch.Generator().manual_seed(5)
    keys = [draw_key(rng) for _ in range(200)]
    assert keys[0] == draw_key(torch.Generator().manual_seed(5))
    assert len(set(keys)) == 200
    assert all(0 <= key < 2**63 for key in keys)
    assert max(keys) > 2**62  # missed by chance with probability 2^-200


@pytest.mark.parametrize("columns", [1, 15, 16, 63, 64, 65, 200])
@pytest.mark.parametrize("kinds", [(a, b, c) for a in KINDS for b in KINDS for c in KINDS])
def test_outputs_of_either_kind_may_be_strided_views(either, columns, kinds):
    rows = 9
    inputs = normal(rows, columns + 3).to(kinds[0])[:, 2 : columns + 2]
    bias = normal(columns, seed=1)
    frames = [torch.full((rows, columns + 5), 7.0, dtype=kind) for kind in kinds[1:]]
    p, samples = (frame[:, 1 : columns + 1] for frame in frames)
    sample_sigmoid(inputs, bias, KEY, probabilities=p, samples=samples)
    expected = exact(inputs, bias)
    assert torch.allclose(p.double(), expected, rtol=1e-6 if kinds[1] == torch.float32 else 2**-8, atol=0)
    assert all((frame[:, columns + 1 :] == 7).all() and (frame[:, :1] == 7).all() for frame in frames)
    assert set(samples.unique().tolist()) <= {0.0, 1.0}
    plain = torch.empty(rows, columns)
    sample_sigmoid(inputs.contiguous(), bias, KEY, samples=plain)
    assert torch.equal(samples.float(), plain)


def test_the_sigmoid_has_six_digits_everywhere(either):
    inputs = torch.linspace(-87, 87, 400_000).reshape(400, 1000)
    p = torch.empty_like(inputs)
    sample_sigmoid(inputs, None, None, probabilities=p)
    assert float((p.double() / exact(inputs) - 1).abs().max()) < 1e-6
    sample_sigmoid(inputs, None, None, probabilities=inputs)
    assert torch.equal(inputs, p)  # in place


def test_extremes_saturate_and_certain_units_are_certain(either):
    inputs = torch.tensor([-math.inf, -1e30, -100.0, -80.0, 80.0, 100.0, 1e30, math.inf]).repeat(2000, 9)
    p, samples = torch.empty_like(inputs), torch.empty_like(inputs)
    sample_sigmoid(inputs, None, KEY, probabilities=p, samples=samples)
    assert (p[:, :2] == 0).all()
    assert (p[:, 2] < 1.2e-38).all()
    assert (p[:, 3] / 1.8048513878454153e-35 - 1).abs().max() < 1e-6
    assert (p.view(2000, 9, 8)[..., 4:] == 1).all()
    assert torch.equal(samples, (inputs > 0).float())
    certain = torch.tensor([0.0, 1.0, -0.5, 1.5]).repeat(5000, 25)
    assert torch.equal(bernoulli(certain, KEY), (certain > 0.5).float())
    assert torch.equal(bernoulli(certain.bfloat16(), KEY), (certain > 0.5).bfloat16())


def test_certainty_holds_for_the_largest_word(compiled):
    key, row, column = 317785, 52, 44  # found by search
    assert uniform(53, 64, key)[row, column] == WORDS - 1
    assert bernoulli(torch.ones(53, 64), key).all()
    assert bernoulli(torch.full((53, 64), 1 - 2.0**-24), key)[row, column] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_not_a_number_is_passed_on(either, kind):
    inputs = torch.zeros(30, 70, dtype=kind)
    inputs[3, 5] = inputs[20, 66] = math.nan
    p, samples = torch.empty_like(inputs), torch.empty_like(inputs)
    sample_sigmoid(inputs, None, KEY, probabilities=p, samples=samples)
    for result in (p, samples, bernoulli(inputs, KEY)):
        assert torch.equal(result.isnan(), inputs.isnan())
    assert softplus_sums(inputs, None).isnan().nonzero().flatten().tolist() == [3, 20]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.bool, torch.uint8])
def test_draws_are_of_the_type_that_is_asked_for(either, dtype):
    p = torch.rand(30, 40, generator=torch.Generator().manual_seed(0))
    drawn = bernoulli(p, KEY, dtype=dtype)
    assert drawn.dtype == dtype
    assert torch.equal(drawn.float(), bernoulli(p, KEY))
    assert bernoulli(p.bfloat16(), KEY).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "convert", [lambda x: x.double(), lambda x: x.half(), lambda x: x.t().contiguous().t(), lambda x: x[:0]]
)
def test_what_the_kernel_does_not_cover_is_done_without_it(convert):
    inputs, bias = convert(normal(300, 200, scale=1.0)), normal(200, seed=1)
    p, samples = (torch.empty_like(inputs, dtype=torch.float64) for _ in range(2))
    sample_sigmoid(inputs, bias, KEY, probabilities=p, samples=samples)
    expected = torch.sigmoid(inputs.double() + bias)
    assert torch.allclose(p, expected, rtol=1e-6, atol=0)
    spread = float((expected * (1 - expected)).sum())
    assert abs(float(samples.sum() - expected.sum())) <= 4.5 * math.sqrt(spread)
    assert softplus_sums(inputs, bias).shape == (len(inputs),)


def test_a_bias_or_an_output_of_another_shape_is_refused(either):
    inputs = torch.zeros(30, 40)
    with pytest.raises((RuntimeError, TypeError)):
        sample_sigmoid(inputs, torch.zeros(39), None, probabilities=torch.empty(30, 40))
    with pytest.raises((RuntimeError, TypeError)):
        sample_sigmoid(inputs, None, KEY, samples=torch.empty(29, 40))


def test_draws_need_a_key():
    with pytest.raises(InvalidOption, match="no key"):
        sample_sigmoid(torch.zeros(2, 2), None, None, samples=torch.empty(2, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("columns", "factor"), [(1, 1.0), (17, -1.0), (500, 1.0), (500, 1 / 3), (784, 0.0)])
def test_softplus_sums_are_right(either, kind, columns, factor):
    inputs, bias = normal(40, columns, scale=8.0).to(kind), normal(columns, seed=1)
    z = factor * (inputs.double() + bias.double())
    expected = torch.logaddexp(z, torch.zeros_like(z)).sum(1)
    found = softplus_sums(inputs, bias, factor)
    assert torch.allclose(found, expected, rtol=3e-7, atol=0)
    assert float((found - expected).abs().max()) < 3e-5
    assert torch.equal(softplus_sums(inputs, None, factor), softplus_sums(inputs, torch.zeros(columns), factor))


def test_softplus_keeps_its_digits_where_all_units_round_alike(either):
    inputs, bias = torch.full((3, 500), 9.3), torch.full((500,), 0.1)
    z = inputs[0].double() + bias.double()
    expected = float(torch.logaddexp(z, torch.zeros_like(z)).sum())
    assert softplus_sums(inputs, bias).tolist() == pytest.approx([expected] * 3, abs=2e-6)
    below = torch.full((1, 500), -60.0)
    assert float(softplus_sums(below, None)) == pytest.approx(500 * math.exp(-60), rel=1e-6)
    ends = torch.tensor([[-math.inf, -1e30, -100.0], [0.0, 1e30, 0.0], [0.0, math.inf, 0.0]])
    assert softplus_sums(ends, None).tolist() == [pytest.approx(0, abs=1e-38), pytest.approx(1e30), math.inf]

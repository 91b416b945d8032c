"""What passes of their own show of a network: growth along depth against theory, phase, spectrum, likeness, smoothness."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from deepforward.report.blocks import Block, Facts, Heading
from deepforward.report.figures import lines, phase_picture, scatter
from deepforward.report.figures.specification import spans_decades

Numbers = Sequence[float | None]

#: Side of the grid that the phase picture is drawn on, and standard deviations in a band.
_GRID, _DEVIATIONS = 41, 2.0


def growth_section(
    keys: Sequence[str],
    *,
    measured: Numbers,
    predicted: Numbers,
    deviation: Sequence[float],
    signal: Numbers,
    signal_predicted: Numbers,
) -> Iterator[Block]:
    """Gradient and signal along the places that all of the gradient passes, measured and predicted.

    Args:
        keys: Places in the order of the forward pass, at least one.
        measured: Decades by which the mean square gradient grew from the last place to each; None where nothing arrives.
        predicted: The same as predicted.
        deviation: Standard deviation of the prediction from network to network, in decades.
        signal: Mean square of what is there.
        signal_predicted: The same by mean field; None where it does not apply.
    """
    place = list(range(1, len(keys) + 1))
    expected, spread = _floats(predicted), _DEVIATIONS * np.asarray(deviation, np.float64)
    yield Heading("Gradient and signal along depth")
    yield lines(
        place,
        {"measured": _list(measured), "predicted": _list(predicted)},
        x_title=f"place, from {_name(keys[0])} to {_name(keys[-1])}",
        y_title="growth of the squared gradient, decades",
        bands={"predicted": ((expected - spread).tolist(), (expected + spread).tolist())},
        caption="How the mean square gradient changes from the last place (right) to each before it; flat is healthy. The "
        "prediction reads the variances of the weights off the layers; 95% of random networks of this width and depth lie in "
        "the band.",
    )
    known = [x for x in (*signal, *signal_predicted) if x is not None]
    yield lines(
        place,
        {"measured": _list(signal), "predicted": _list(signal_predicted)} if any(signal_predicted) else {"": _list(signal)},
        x_title="place, from input to output",
        y_title="mean square of the signal",
        log_y=spans_decades(known),
        caption="The signal at the same places; mean field theory predicts it where affine layers and activations alternate.",
    )


def phase_section(
    facts: Mapping[str, object],
    sigmas: tuple[float, float] | None,
    grid: Callable[[Sequence[float], Sequence[float]], np.ndarray] | None,
    edge: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> Iterator[Block]:
    """Where the network stands between order and chaos.

    Args:
        facts: What was found, by name.
        sigmas: sigma_w and sigma_b of the network; None where its layers are no mean field theory's.
        grid: Chi for each sigma_b (rows) and sigma_w (columns), for the network's activation; None likewise.
        edge: sigma_w and sigma_b along the critical line.
    """
    yield Heading("Order and chaos")
    if sigmas is not None and grid is not None:
        weights = np.linspace(0.05, max(3.0, 1.2 * sigmas[0]), _GRID).tolist()
        biases = np.linspace(0.0, max(1.0, 1.5 * sigmas[1]), _GRID).tolist()
        yield phase_picture(
            weights,
            biases,
            grid(weights, biases),
            edge=edge,
            points=[("this network", *sigmas)],
            caption="Blue: order, where gradients vanish and inputs become alike. Orange: chaos, where gradients explode. "
            "Along the broken line, or at the dot, they keep their size at any depth.",
        )
    yield Facts(facts, "Phase", half=True)


def spectrum_section(spectra: Mapping[str, Sequence[float]], facts: Mapping[str, object]) -> Iterator[Block]:
    """Singular values of the Jacobian from input to output.

    Args:
        spectra: Name of the stretch -> its singular values; empty where only moments are known.
        facts: Moments, by name.
    """
    yield Heading("Spectrum of the Jacobian")
    count = max((len(values) for values in spectra.values()), default=0)
    if count:
        falling = {name: sorted(values, reverse=True) for name, values in spectra.items()}
        chart = lines(
            list(range(1, count + 1)),
            {name: [*values, *[math.nan] * (count - len(values))] for name, values in falling.items()},
            x_title="direction, from the most stretched one on",
            y_title="singular value",
            log_y=True,
            caption="How a small change of an input is stretched, direction by direction. A level line is an isometry; where "
            "it falls far, most directions are lost.",
        )
        yield replace(chart, half=True)
    yield Facts(facts, "Moments", half=True)


def likeness_section(keys: Sequence[str], cosine: Numbers, rank_share: Numbers) -> Iterator[Block]:
    """Whether different examples still look different along depth.

    Args:
        keys: Layer calls in the order of the forward pass.
        cosine: Mean cosine between two examples.
        rank_share: Effective rank as a share of the largest possible one.
    """
    yield Heading("How alike examples become")
    yield lines(
        list(range(1, len(keys) + 1)),
        {"mean cosine": _list(cosine), "effective rank": _list(rank_share)},
        x_title="layer call, from input to output",
        y_title="share",
        caption="Mean cosine of two examples, and effective rank as a share of the largest possible. A cosine that goes to 1 "
        "means that all examples look the same to the layers behind, which then cannot tell them apart, even where gradients "
        "are healthy.",
    )


def smoothness_section(
    gradient_norms: Sequence[float], smoothness: Sequence[float], fit: tuple[float, float] | None, facts: Mapping[str, object]
) -> Iterator[Block]:
    """How fast the gradient turns, against its size, along a short walk.

    Args:
        gradient_norms: |g| at each step.
        smoothness: L there.
        fit: L0 and L1 of L = L0 + L1 |g|; None where they were not fitted.
        facts: What follows, by name.
    """
    x, y = list(gradient_norms), list(smoothness)
    groups = ["measured"] * len(x)
    positive = [norm for norm in x if norm > 0]
    if fit is not None and positive:
        line = np.geomspace(min(positive), max(positive), 60) if max(positive) > min(positive) else np.array(positive[:1])
        x, y = [*x, *line.tolist()], [*y, *(fit[0] + fit[1] * line).tolist()]
        groups += ["fit L0 + L1 |g|"] * len(line)
    yield Heading("Smoothness of the loss")
    yield scatter(
        x,
        y,
        x_title="gradient norm |g|",
        y_title="smoothness L",
        groups=groups,
        log_x=spans_decades(positive),
        log_y=spans_decades([value for value in y if value > 0]),
        caption="Each point is a step of a short walk downhill: how large the gradient was, and how fast it changed along the "
        "step. Where L grows with |g|, long steps must be clipped.",
    )
    yield Facts(facts, "Smoothness", half=True)


def shift_section(keys: Sequence[str], relative: Sequence[float], cosines: Sequence[float]) -> Iterator[Block]:
    """How much a layer's gradient changes because the layers before it took a step.

    Args:
        keys: Layers in the order of the forward pass.
        relative: |G - H| / |G|, G being the gradient and H the one after that step.
        cosines: Cosine of the angle between G and H.
    """
    yield Heading("Internal covariate shift")
    yield lines(
        list(range(1, len(keys) + 1)),
        {"relative change": list(relative), "cosine": list(cosines)},
        x_title=f"layer, from {_name(keys[0])} to {_name(keys[-1])}",
        y_title="change from G to H",
        caption="G is a layer's gradient, H the same after the layers before it took a step. A cosine of 1 is no shift.",
    )


def blocks_section(names: Sequence[str], contributions: Sequence[float], growths: Sequence[float]) -> Iterator[Block]:
    """What residual blocks add to what passes them.

    Args:
        names: Blocks in the order of the forward pass.
        contributions: |F(x)| / |x|.
        growths: |x + F(x)| / |x|.
    """
    yield Heading("Residual blocks")
    yield lines(
        list(range(1, len(names) + 1)),
        {"|F(x)| / |x|": list(contributions), "|x + F(x)| / |x|": list(growths)},
        x_title="block, from input to output",
        y_title="share of the shortcut",
        caption="How much each block adds to what its shortcut carries; a block at 0 is the identity.",
    )


def _name(key: str) -> str:
    return key.removesuffix("#0")


def _floats(values: Numbers) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _list(values: Numbers) -> list[float]:
    return _floats(values).tolist()

"""What only convolutional networks suffer from: filters that never answer, and a view too narrow for the objects."""

from __future__ import annotations

import numpy as np

from deepforward.clinic.finding import Evidence, Finding
from deepforward.clinic.rules.progress import thriving
from deepforward.clinic.rules.units import MOST, share_of_layers

#: Share of the filters of a layer that are silent in an ill one: chance gives half where all inputs have become alike.
MANY = 0.6

_AFFINE = ("Linear", "Bilinear", "Conv", "LazyConv")


def dead_filters(evidence: Evidence) -> list[Finding]:
    """Most filters of a convolutional layer are silent at every place of every example, and some are not.

    Of a layer that is dead as a whole `dead_units` speaks.

    Source: Zeiler and Fergus 2014, section 4.1; Maas, Hannun, Ng 2013.
    """
    readings = evidence.readings
    _, share = share_of_layers(evidence, "dead_share")
    if readings is None or thriving(evidence):
        return []
    ill = [int(i) for i in np.flatnonzero((share > MANY) & (share <= MOST)) if _follows_convolution(readings.kinds[:i])]
    if not ill:
        return []
    worst = max(ill, key=lambda i: float(share[i]))
    layer, dead = readings.layers[worst], float(share[worst])
    return [
        Finding(
            rule="dead-filters",
            layer=layer,
            severity=dead if evidence.progress is None else 1.0 - evidence.progress,
            cause=f"{dead:.0%} of the filters before {layer} answer nowhere in any example, late in training as well: the "
            f"layer works with the other {1 - dead:.0%}",
            evidence={"share": dead, "layers": [readings.layers[i] for i in ill]},
            source="Zeiler and Fergus 2014; Maas, Hannun, Ng 2013",
            prescriptions=("batch-normalization", "critical-initialization", "activation-swap", "learning-rate"),
        )
    ]


def _follows_convolution(kinds: tuple[str, ...]) -> bool:
    """Whether the last layer with weights before an activation is a convolution."""
    last = next((kind for kind in reversed(kinds) if kind.startswith(_AFFINE)), "")
    return "Conv" in last


def small_receptive_field(evidence: Evidence) -> list[Finding]:
    """What is pooled over places is computed from less than an object, and training does not succeed.

    The size of an object is estimated from the images (`field_of_view.object_extents`): the larger side of the box around what
    deviates most from the median of an image, median over images.

    Source: Luo, Li, Urtasun, Zemel 2016.
    """
    view = evidence.view
    if view is None or thriving(evidence) or min(view.field) >= view.object:
        return []
    field = min(view.field)
    return [
        Finding(
            rule="small-receptive-field",
            layer=view.layer,
            severity=1 - field / view.object if evidence.progress is None else 1.0 - evidence.progress,
            cause=f"units of {view.layer} see {view.field[0]} x {view.field[1]} pixels at once, and what stands out of the "
            f"images measures {view.object:.3g}: no layer behind tells places apart, so that none sees an object as a whole",
            evidence={"field": list(view.field), "object": view.object, "image": list(view.image)},
            source="Luo, Li, Urtasun, Zemel 2016; the object: what deviates most from the median of an image",
            prescriptions=("growing-dilation",),
        )
    ]

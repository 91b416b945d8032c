"""Examples that the layers make alike: gradients arrive, and carry nothing to tell the examples apart by."""

from __future__ import annotations

from deepforward.clinic.edge import ALIKE, cosine_of_inputs, depth_kept_apart, edge_of
from deepforward.clinic.finding import Evidence, Finding
from deepforward.clinic.rules.progress import HALF, thriving

#: Mean cosine of the last hidden layer from which examples are alike, as seen and as theory foretells it.
COSINE = 0.9

#: Effective rank up to which they are, where theory foretells nothing.
RANK = 4.0


def rank_collapse(evidence: Evidence) -> list[Finding]:
    """Behind the last hidden layer all examples point the same way, as theory foretells, and training does not come halfway.

    Before any training only depths are judged at which critical networks were seen to learn nothing, and no network with skips:
    what its branches carry may be learnt all the same.

    Source: Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation (the correlation's fixed point).
    """
    seen, progress, edge = evidence.representations, evidence.progress, edge_of(evidence.phase)
    last = seen.last_hidden if seen is not None else None
    if seen is None or last is None or last.cosine is None or last.effective_rank is None or thriving(evidence):
        return []
    if (progress is not None and progress >= HALF) or last.cosine < COSINE or cosine_of_inputs(evidence) >= COSINE:
        return []
    if edge is not None:
        foretold = depth_kept_apart(edge.activation, cosine_of_inputs(evidence), ALIKE if progress is None else COSINE)
        if edge.layers + 1 < foretold:
            return []
    elif progress is None or last.effective_rank > RANK:
        return []
    first = seen.input.cosine if seen.input is not None else None
    numbers = {"cosine": last.cosine, "effective_rank": last.effective_rank, "full_rank": last.full_rank, "input_cosine": first}
    return [
        Finding(
            rule="rank-collapse",
            layer=_begins(evidence),
            severity=last.cosine if progress is None else 1.0 - progress,
            cause=f"behind {last.key} the examples have a mean cosine of {last.cosine:.3f}{_before(first)} and an effective "
            f"rank of {last.effective_rank:.1f} of {last.full_rank}: they have become alike, and no gradient tells them apart"
            f"{_theory(evidence)}",
            evidence=numbers,
            source="Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017, Deep information propagation; He, Zhang, Ren, Sun 2016",
            prescriptions=("residual-connections",),
            change=f"carry the signal past each layer, the branch times {(edge.layers + 1) ** -0.5:.2g}" if edge else "",
        )
    ]


def _before(cosine: float | None) -> str:
    return f" ({cosine:.2f} at the input)" if cosine is not None else ""


def _begins(evidence: Evidence) -> str:
    """The first layer behind which the cosine stays above `COSINE`."""
    assert evidence.representations is not None
    layers = evidence.representations.layers
    low = [at for at, layer in enumerate(layers[:-1]) if layer.cosine is None or layer.cosine < COSINE]
    return layers[low[-1] + 1 if low else 0].key


def _theory(evidence: Evidence) -> str:
    """How deep the theory lets such a network be."""
    edge = edge_of(evidence.phase)
    if edge is None:
        return ""
    depth = depth_kept_apart(edge.activation, cosine_of_inputs(evidence))
    return f"; even at the edge of chaos {edge.activation} does this within {depth:.0f} layers, and there are {edge.layers + 1}"

"""Diagnosis of a module -> its page: the conclusion first, then what theory predicts and passes of its own show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from deepforward.clinic.close_look import CloseLook
from deepforward.engine.run import versions
from deepforward.instruments import JacobianSpectra, PhaseReading, Readings, Representations, Shift, Smoothness
from deepforward.instruments.degradation import Blocks
from deepforward.layers.activations import ACTIVATIONS
from deepforward.report import Block, Code, Facts, Heading, Page, RunRecord
from deepforward.report.conclusion_section import conclusion_section
from deepforward.report.network_section import (
    blocks_section,
    growth_section,
    likeness_section,
    phase_section,
    shift_section,
    smoothness_section,
    spectrum_section,
)
from deepforward.report.plain import counted
from deepforward.report.readings_section import layers_section, readings_section
from deepforward.theory.phase import critical_line, phase_grid

if TYPE_CHECKING:
    from deepforward.clinic.diagnosis import Diagnosis


def diagnosis_page(
    diagnosis: Diagnosis, look: CloseLook, title: str, *, command: str = "", facts: Mapping[str, Any] | None = None
) -> Page:
    """The page of a network that is not trained, or that somebody else trains.

    Args:
        diagnosis: What was concluded.
        look: What was measured beside it; a section whose measurement is None is left out.
        title: What was diagnosed.
        command: What to type to do it again; none where no command does.
        facts: How it was looked at, by name.
    """
    readings = diagnosis.evidence.readings
    seen = "" if readings is None else counted(len(readings.layers), "layer call")
    found = counted(len(diagnosis.findings), "finding")
    return Page(title, " · ".join(filter(None, [seen, found])), tuple(_blocks(diagnosis, look, command, facts or {})))


def _blocks(diagnosis: Diagnosis, look: CloseLook, command: str, facts: Mapping[str, Any]) -> Iterator[Block]:
    evidence, readings = diagnosis.evidence, diagnosis.evidence.readings
    findings = [asdict(finding) for finding in diagnosis.findings]
    yield from conclusion_section(RunRecord(recipe={}, status="not trained", findings=findings, readings=readings))
    if evidence.phase is not None:
        yield from _growth(evidence.phase)
        yield from _phase(evidence.phase)
    if look.spectra is not None and look.spectra.maps:
        yield from _spectrum(look.spectra)
    if evidence.representations is not None and evidence.representations.layers:
        yield from _likeness(evidence.representations)
    if look.smoothness is not None and look.smoothness.losses:
        yield from _smoothness(look.smoothness)
    if look.shift is not None and look.shift.layers:
        yield from _shift(look.shift)
    if look.blocks is not None and look.blocks.names:
        yield from _residual(look.blocks)
    if readings is not None and readings.steps and readings.layers:
        yield Heading("Layer by layer")
        if "update_ratio" in readings.values:
            yield from readings_section(readings)
        else:  # no step was taken, and the batches differ by chance only
            yield from layers_section(_first(readings))
    yield Heading("How this was made")
    if command:
        yield Code(command)
    yield Facts({**facts, **versions()}, half=True)


def _first(readings: Readings) -> Readings:
    """The readings of the first batch."""
    return replace(readings, steps=readings.steps[:1], values={name: x[:1] for name, x in readings.values.items()})


def _growth(phase: PhaseReading) -> Iterator[Block]:
    layers = phase.layers
    yield from growth_section(
        [layer.key for layer in layers],
        measured=[layer.measured_decades for layer in layers],
        predicted=[layer.predicted_decades for layer in layers],
        deviation=[layer.band for layer in layers],
        signal=[layer.q for layer in layers],
        signal_predicted=[layer.q_predicted for layer in layers],
    )


def _phase(phase: PhaseReading) -> Iterator[Block]:
    trainable = phase.trainable_depth
    facts = {
        "phase": phase.phase,
        "χ, growth of the squared gradient a layer": phase.chi,
        "depth scale, layers": phase.depth_scale,
        "trainable depth, layers": "any" if trainable == "critical" else trainable,
        "places": len(phase.layers),
        "activation": phase.activation,
        "√(fan-in · Var W)": phase.sigma_w,
        "√(Var b)": phase.sigma_b,
        "critical √(fan-in · Var W)": phase.critical_sigma_w,
        "critical √(Var b)": phase.critical_sigma_b,
        "Σ 1/width": phase.depth_to_width,
        "rests on": phase.source,
    }
    known = {name: value for name, value in facts.items() if value is not None}
    if phase.activation is None or phase.sigma_w is None or phase.sigma_b is None:
        yield from phase_section(known, None, None)
        return
    module = ACTIVATIONS[phase.activation]().double()
    line = critical_line(module, np.geomspace(1e-4, 20, 240).tolist())
    yield from phase_section(known, (phase.sigma_w, phase.sigma_b), partial(phase_grid, module), (line.sigma_w, line.sigma_b))


def _spectrum(spectra: JacobianSpectra) -> Iterator[Block]:
    exact = {found.name: found.singular_values for found in spectra.maps if found.singular_values is not None}
    facts: dict[str, Any] = {"examples averaged over": spectra.samples, "mode": spectra.mode}
    for found in spectra.maps:
        of = f" of {found.name}" if len(spectra.maps) > 1 else ""
        facts |= {
            f"inputs and outputs{of}": (found.inputs, found.outputs),
            f"mean squared singular value{of}": found.m1,
            f"isometry defect{of}": found.isometry_defect,
            f"its standard error{of}": found.error if not found.exact else None,
            f"largest singular value{of}": found.sigma_max,
        }
    yield from spectrum_section(exact, {name: value for name, value in facts.items() if value is not None})


def _likeness(found: Representations) -> Iterator[Block]:
    layers = ((found.input,) if found.input is not None else ()) + found.layers
    shares = [None if layer.effective_rank is None else layer.effective_rank / max(layer.full_rank, 1) for layer in layers]
    yield from likeness_section([layer.key for layer in layers], [layer.cosine for layer in layers], shares)


def _smoothness(walk: Smoothness) -> Iterator[Block]:
    facts: dict[str, Any] = {"steps": len(walk.losses), "first loss": walk.losses[0], "last loss": walk.losses[-1]}
    if walk.fit is not None:
        facts |= {"L0": walk.fit.L0, "L1": walk.fit.L1, "L1 is identified": "yes" if walk.fit.identified else "no"}
        facts |= {"L1, 5% to 95%": (walk.fit.L1_low, walk.fit.L1_high)}
    fit = None if walk.fit is None else (walk.fit.L0, walk.fit.L1)
    yield from smoothness_section(walk.gradient_norms, walk.smoothness, fit, facts)


def _shift(shift: Shift) -> Iterator[Block]:
    yield from shift_section(shift.layers, shift.relative, shift.cosines)


def _residual(blocks: Blocks) -> Iterator[Block]:
    yield from blocks_section(blocks.names, blocks.contributions, blocks.growths)

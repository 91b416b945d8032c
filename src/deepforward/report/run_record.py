"""What a run left behind, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepforward.report.figures import History
from deepforward.report.readings_section import LayerReadings


@dataclass(frozen=True, kw_only=True)
class MaskRecord:
    """What a model makes of the pixels of test images.

    Attributes:
        images: Some test images (images, channels, height, width), uint8.
        true: Class of each of their pixels (images, height, width), uint8; 255 where there is none.
        predicted: The class given.
        confusion: (true class, predicted class) counts of the pixels of the whole test split.
    """

    images: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    confusion: np.ndarray


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run as plain values; what a run did not leave is left empty, and its part of the page is left out.

    Attributes:
        recipe: The complete recipe.
        command: What to type to make the run again; empty where no command does.
        status: How it ended: `finished`, `stopped early`, `diverged`, ...
        progress: How far a run has come that goes on; empty once it has ended.
        versions: Package -> version, and how the machine computed.
        metrics: Final metrics by `split/name`; `name_low` and `name_high` are the ends of the 95% interval of `name`.
        descends: Whether a healthy run lowers its loss; where not, the loss tells nothing and is not shown.
        findings: `rule`, `layer`, `severity`, `evidence`, `cause`, `source`, `prescriptions` of each cause that was found;
            None if the run was not diagnosed.
        verdicts: `prescription`, `outcome`, `before`, `after`, `seeds` and, where known, `interval` and `epochs` of each trial.
            Before and after are the share of the chance loss that training removed, in [0, 1]: one number, or one a seed.
        untreated: The same run before the cure, if this one is the cured.
        history: One mapping an epoch, as in history.jsonl.
        twins: Name -> history of other runs to show beside this one, such as the shallower twin.
        readings: What the instruments saw.
        confusion: (true class, predicted class) counts on the test split.
        classes: Class names by index.
        mistakes: Worst mistakes as images (images, channels, height, width), the worst first.
        mistake_captions: One for each of them, such as `7 taken for 1 (98%)`.
        masks: Where the class of each pixel is asked for, what the model makes of them.
        filters: Filters of the first layer as images.
        first_images: First examples of the training split as images.
        first_captions: One for each of them, such as the class.
        data: Facts of the data set.
        portrait: What a model of the data shows of itself, by the names that `energy_section` and `filters_section` draw;
            images of the data's shape are uint8.
        snapshots: Epoch -> name -> images (images, channels, height, width) that it showed then, uint8.
        stages: `name`, `changes`, `status`, `epochs`, `metrics` of each training of the same network that came first.
    """

    recipe: Mapping[str, Any]
    command: str = ""
    status: str = "finished"
    progress: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    findings: Sequence[Mapping[str, Any]] | None = ()
    verdicts: Sequence[Mapping[str, Any]] = ()
    untreated: RunRecord | None = None
    history: History = ()
    twins: Mapping[str, History] = field(default_factory=dict)
    readings: LayerReadings | None = None
    confusion: np.ndarray | None = None
    classes: Sequence[str] = ()
    mistakes: np.ndarray | None = None
    mistake_captions: Sequence[str] = ()
    masks: MaskRecord | None = None
    filters: np.ndarray | None = None
    first_images: np.ndarray | None = None
    first_captions: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    descends: bool = True
    portrait: Mapping[str, np.ndarray] = field(default_factory=dict)
    snapshots: Mapping[int, Mapping[str, np.ndarray]] = field(default_factory=dict)
    stages: Sequence[Mapping[str, Any]] = ()

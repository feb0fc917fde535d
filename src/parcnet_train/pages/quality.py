"""What the last evaluation of a run found, collected for its page."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from parcnet_train.pages import classification, detection, segmentation
from parcnet_train.pages.data import data_blocks
from parcnet_train.pages.parts import MOST_IMAGES, Block
from parcnet_train.tasks.base import Task
from parcnet_train.tasks.classification import ClassificationTask
from parcnet_train.tasks.detection import DetectionTask
from parcnet_train.tasks.segmentation import SegmentationTask


class Collector(Protocol):
    """What an evaluation collects beside its metrics."""

    def update(self, batch: Any, outputs: Any) -> None:
        """Add a batch and the result of `validation_step` for it."""

    def compute(self, task: Any) -> Any:
        """Return what was collected in all processes; every process calls it."""


class Kind(NamedTuple):
    """How the quality of a task is collected and shown."""

    collector: Callable[[], Collector]
    evaluated: Callable[[Any, Any, Any], Any]  # of what was found, the task and the data
    quality: Callable[[Any], list[Block]]  # of what was evaluated
    examples: Callable[[Any, int, Any], list[Block]]  # of it, their number and the data


KINDS: dict[type[Task], Kind] = {
    task: Kind(page.Collector, page.evaluated, page.quality, page.examples)
    for task, page in (
        (ClassificationTask, classification),
        (DetectionTask, detection),
        (SegmentationTask, segmentation),
    )
}


class Quality(Callback):
    """Collector of an evaluation, whose result is kept for the page.

    Args:
        kind: Collector and drawings of the task.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.collector = kind.collector()
        self.found: Any = None

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add a batch."""
        self.collector.update(batch, outputs)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather what was collected, before the task resets its metrics."""
        self.found = self.collector.compute(pl_module)

    def sections(self, task: Any, data: Any) -> Iterator[tuple[str, str, Callable[[], Any]]]:
        """Yield key and title of every section of the page, and a function that draws it."""
        evaluated = functools.cache(lambda: self.kind.evaluated(self.found, task, data))
        most = min(task.pictures, MOST_IMAGES)
        yield "quality", "Quality", lambda: self.kind.quality(evaluated())
        yield "examples", "Examples", lambda: self.kind.examples(evaluated(), most, data)
        yield "data", "Data", lambda: data_blocks(data)


def quality_of(task: Task) -> Quality | None:
    """Return the collector of a task; None for a custom one, and with `task.pictures=0`."""
    if not getattr(task, "pictures", 0):
        return None
    return next((Quality(kind) for each, kind in KINDS.items() if isinstance(task, each)), None)

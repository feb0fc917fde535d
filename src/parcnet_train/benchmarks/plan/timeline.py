"""Times of the parts of a short training, from the hooks of Lightning's profilers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from pytorch_lightning.profilers import Profiler

from parcnet_train.benchmarks.timing import wait_for

# Lightning's names of what it does, without the names of our classes.
FETCH = "[_TrainingEpochLoop].train_dataloader_next"
EPOCH = "run_training_epoch"
SAVE = "save_checkpoint"
EVALUATION = "on_validation_start"  # of the strategy: the last hook before the first batch
FETCH_EVALUATED = "[_EvaluationLoop].val_next"
METRICS = "on_validation_epoch_end"  # of the Lightning module
BUSY = 0.001  # seconds of waiting from which a device counts as busy


@dataclass(frozen=True)
class Span:
    """A part of the training, in seconds of one clock.

    Attributes:
        name: Name of the part.
        start: Start.
        end: End.
    """

    name: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.end - self.start


@dataclass(frozen=True)
class Step:
    """A training step, from the moment its batch is there to the moment the next one is.

    Attributes:
        seconds: Duration, without evaluations and checkpoints.
        waited: Time in which the device had nothing to do, since the loader was not ready.
    """

    seconds: float
    waited: float


@dataclass(frozen=True)
class Evaluation:
    """An evaluation, in seconds.

    Attributes:
        batches: Time from the first to the last batch, with the work of that many minus one.
        computing: Time in which the metrics of all images are computed.
        rest: The rest.
    """

    batches: float
    computing: float
    rest: float


class Timeline(Profiler):
    """Profiler that records when the parts of a training begin and end.

    It waits for the device whenever a batch is there, so that a step's time is the device's.

    Args:
        device: Device of the training.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.spans: list[Span] = []
        self.idle: dict[float, float] = {}  # seconds without work by the end of a fetch
        self.begun: dict[str, float] = {}

    def start(self, action_name: str) -> None:
        """Note the beginning of a part."""
        if (name := part_of(action_name)) is not None:
            self.begun[name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """Record a part."""
        if (name := part_of(action_name)) is None or name not in self.begun:
            return
        began, end = self.begun.pop(name), time.perf_counter()
        if name == FETCH:
            wait_for(self.device)
            fetched, end = end, time.perf_counter()
            # A device that still had work when the batch arrived has not waited for it.
            self.idle[end] = 0.0 if end - fetched > BUSY else fetched - began
        self.spans.append(Span(name, began, end))

    def of(self, name: str, epoch: int) -> list[Span]:
        """Return the spans of a name in an epoch, counted from 0, in the order of time."""
        starts = [*(each.start for each in self.spans if each.name == EPOCH), float("inf")]
        return [
            each
            for each in self.spans
            if each.name == name and starts[epoch] <= each.start < starts[epoch + 1]
        ]

    def steps(self, epoch: int) -> list[Step]:
        """Return the steps of an epoch; the last one ends with the epoch, without a next batch."""
        fetches = self.of(FETCH, epoch)
        others = [*self.of(SAVE, epoch), *self.evaluations_of(epoch)]
        ends = [*(each.end for each in fetches[1:]), self.of(EPOCH, epoch)[0].end]
        steps = []
        for batch, end in zip(fetches, ends, strict=True):
            between = (each.seconds for each in others if batch.end <= each.start < end)
            seconds = end - batch.end - sum(between)
            steps.append(Step(seconds, min(seconds, self.idle.get(end, 0.0))))
        return steps

    def evaluations_of(self, epoch: int) -> Iterator[Span]:
        """Yield the evaluations of an epoch, each from its start to its metrics."""
        starts, ends = self.of(EVALUATION, epoch), self.of(METRICS, epoch)
        for start, end in zip(starts, ends, strict=True):
            yield Span(EVALUATION, start.start, end.end)

    def evaluation(self, epoch: int) -> Evaluation:
        """Return the parts of the last evaluation of an epoch."""
        *_, whole = self.evaluations_of(epoch)
        fetches = [each for each in self.of(FETCH_EVALUATED, epoch) if each.start >= whole.start]
        computing = self.of(METRICS, epoch)[-1].seconds
        batches = fetches[-1].start - fetches[0].start
        return Evaluation(batches, computing, whole.seconds - batches - computing)

    def saved(self, epoch: int) -> list[float]:
        """Return the seconds of each checkpoint of an epoch."""
        return [each.seconds for each in self.of(SAVE, epoch)]

    def rest_of_epoch(self, epoch: int) -> float:
        """Return the time of an epoch without its steps, evaluations and checkpoints."""
        mine = [*self.of(EPOCH, epoch), *self.of(SAVE, epoch)]  # some are saved after its end
        parts = [each.seconds for each in self.steps(epoch)]
        parts += [each.seconds for each in (*self.of(SAVE, epoch), *self.evaluations_of(epoch))]
        whole = max(each.end for each in mine) - mine[0].start
        return max(0.0, whole - sum(parts))


def part_of(action: str) -> str | None:
    """Return which of the recorded parts Lightning names; None for all others."""
    if action in (FETCH, EPOCH, SAVE, FETCH_EVALUATED):
        return action
    if action.startswith("[Strategy]") and action.endswith(f".{EVALUATION}"):
        return EVALUATION
    if action.startswith("[LightningModule]") and action.endswith(f".{METRICS}"):
        return METRICS
    return None

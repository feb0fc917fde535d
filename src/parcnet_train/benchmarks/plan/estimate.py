"""How long a training will take: its amount of work times the measured cost of each part.

All times are in seconds. The arithmetic for several devices is that of synchronous data parallelism
with a ring all-reduce (Patarasuk and Yuan 2009), which moves `2 (n - 1) / n` times the bytes of the
gradients through every device. It assumes that nothing of it is hidden behind the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import NamedTuple

from parcnet_train.benchmarks.plan.timeline import Evaluation, Step, Timeline
from parcnet_train.sizes import Size

LEAST_EFFICIENCY = 0.5  # below it, half of the devices would be nearly as fast
MOST_DEVICES = 4096


class Batch(NamedTuple):
    """A batch of one process: the size of its images, and how many it has."""

    size: Size
    images: int


@dataclass(frozen=True)
class Work:
    """What a whole training consists of, for each of its processes.

    Attributes:
        epochs: Number of epochs.
        steps: Number of batches at each image size.
        updates: Number of optimizer steps.
        evaluations: Number of evaluations, including the one of the best checkpoint at the end.
        evaluated: Number of batches of an evaluation.
        checkpoints: Largest number of checkpoints: the best one may be written at each evaluation.
        global_batch: Number of images in an optimizer step, at the base size.
    """

    epochs: int
    steps: Mapping[Batch, int]
    updates: int
    evaluations: int
    evaluated: int
    checkpoints: int
    global_batch: int


@dataclass(frozen=True)
class Cost:
    """What the parts of a training cost, in seconds.

    Attributes:
        steps: Steps that were measured, by image size.
        evaluation: An evaluation.
        evaluated: Number of its batches.
        checkpoint: Writing of a checkpoint.
        epoch: Beginning and end of an epoch.
        fixed: Start, end, and the first slow steps.
    """

    steps: Mapping[Batch, Sequence[Step]]
    evaluation: Evaluation
    evaluated: int
    checkpoint: float
    epoch: float
    fixed: float

    @classmethod
    def measured(
        cls, timeline: Timeline, epochs: Sequence[Sequence[Batch]], evaluated: int, ahead: int
    ) -> Cost:
        """Return the costs in the last epoch of a short training, without the fixed ones.

        Args:
            timeline: Times of the training.
            epochs: Image sizes of the batches of its epochs.
            evaluated: Number of batches of an evaluation.
            ahead: Number of batches that the loader has read ahead when an epoch begins; the steps
                with them do not show how fast it is.
        """
        last = len(epochs) - 1
        pairs = list(zip(epochs[last], timeline.steps(last), strict=True))
        inner = pairs[ahead:-1] or pairs[:-1] or pairs  # the last step has no next batch
        steps: dict[Batch, list[Step]] = {}
        for batch, step in inner:
            steps.setdefault(batch, []).append(step)
        return cls(
            steps,
            timeline.evaluation(last),
            evaluated,
            mean(timeline.saved(last)),
            timeline.rest_of_epoch(last),
            fixed=0.0,
        )

    def pace(self, counts: Mapping[Batch, int]) -> float:
        """Return the images per second of a device that never waits for the loader.

        Args:
            counts: Number of batches at each image size.
        """
        steps = {batch: self.step(batch) for batch in counts}
        images = sum(count * batch.images for batch, count in counts.items())
        return images / sum(
            count * (steps[batch].seconds - steps[batch].waited) for batch, count in counts.items()
        )

    def step(self, batch: Batch) -> Step:
        """Return the mean step at an image size; of an unmeasured one, by its number of pixels.

        The measured step with the most similar size of an image counts: with other numbers of
        devices, some samplers take other numbers of images at the same size.
        """

        def difference(other: Batch) -> tuple[int, int]:
            return abs(area(other) - area(batch)), abs(other.images - batch.images)

        nearest = min(self.steps, key=difference)
        share = pixels(batch) / pixels(nearest)
        return Step(
            share * mean(each.seconds for each in self.steps[nearest]),
            share * mean(each.waited for each in self.steps[nearest]),
        )

    def evaluate(self, batches: int) -> float:
        """Return the time of an evaluation with a number of batches."""
        measured = self.evaluation
        per_batch = measured.batches / max(1, self.evaluated - 1)
        computing = measured.computing * batches / self.evaluated
        return measured.rest + per_batch * (batches - 1) + computing


@dataclass(frozen=True)
class Estimate:
    """Time of a training by its parts, in seconds.

    Attributes:
        device: Computation of the training steps.
        loader: Time in which the device waits for images.
        exchange: All-reduce of the gradients.
        evaluation: Evaluations.
        saving: Checkpoints.
        epochs: Beginning and end of the epochs.
        fixed: Start and end of the run.
    """

    device: float
    loader: float
    exchange: float
    evaluation: float
    saving: float
    epochs: float
    fixed: float

    def parts(self) -> dict[str, float]:
        """Return all parts by name."""
        return vars(self)

    @property
    def total(self) -> float:
        """Time of the whole training."""
        return sum(self.parts().values())

    @property
    def bottleneck(self) -> str:
        """Name of the largest part."""
        return max(self.parts(), key=self.parts().__getitem__)


def area(batch: Batch) -> int:
    """Return the number of pixels of an image."""
    return batch.size[0] * batch.size[1]


def pixels(batch: Batch) -> int:
    """Return the number of pixels of a step."""
    return batch.images * area(batch)


def estimate(work: Work, cost: Cost, exchange: float = 0.0) -> Estimate:
    """Return the time of a training.

    Args:
        work: Amount of work.
        cost: Cost of each part.
        exchange: Seconds that an optimizer step takes longer with several devices.
    """
    steps = {batch: cost.step(batch) for batch in work.steps}
    waited = sum(count * steps[batch].waited for batch, count in work.steps.items())
    computed = sum(count * steps[batch].seconds for batch, count in work.steps.items())
    return Estimate(
        device=computed - waited,
        loader=waited,
        exchange=work.updates * exchange,
        evaluation=work.evaluations * cost.evaluate(work.evaluated),
        saving=work.checkpoints * cost.checkpoint,
        epochs=work.epochs * cost.epoch,
        fixed=cost.fixed,
    )


def ring_all_reduce(devices: int, gradient_bytes: int, bandwidth: float) -> float:
    """Return the seconds of a ring all-reduce: `2 (n - 1) / n` times bytes over bandwidth.

    Args:
        devices: Number of devices.
        gradient_bytes: Size of all gradients in bytes.
        bandwidth: Bytes per second that every device sends and receives.
    """
    return 2 * (devices - 1) / devices * gradient_bytes / bandwidth


def efficiency(one: Estimate, several: Estimate, devices: int) -> float:
    """Return the speedup of several devices over one, divided by their number."""
    return one.total / (devices * several.total)


def largest_useful(of: Callable[[int], Estimate]) -> tuple[int, str]:
    """Return the largest power of two that is at least half as efficient as one device.

    Args:
        of: Function that returns the estimate for a number of devices.

    Returns:
        The number of devices, and the part that limits them: the one that exceeds its share of the
        time of one device most, if there are twice as many.
    """
    one, devices = of(1), 1
    while devices < MOST_DEVICES and efficiency(one, of(2 * devices), 2 * devices) >= (
        LEAST_EFFICIENCY
    ):
        devices *= 2
    twice = 2 * devices
    excess = {name: part - one.parts()[name] / twice for name, part in of(twice).parts().items()}
    return devices, max(excess, key=excess.__getitem__)


def workers_needed(images_per_second: float, per_worker: float) -> int:
    """Return the number of loader processes that read as fast as a device trains.

    Args:
        images_per_second: Images per second of the device.
        per_worker: Images per second of one loader process.
    """
    return math.ceil(images_per_second / per_worker)

"""Composition and image size of every step, determined by (seed, epoch, global batch) only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Le
from torch.utils.data import Sampler

from parcnet_train.bounds import Count, PositiveShare
from parcnet_train.data.batches import PADDING
from parcnet_train.errors import ConfigError
from parcnet_train.sizes import Size, make_divisible


class SampleKey(NamedTuple):
    """Key of a sample; it contains everything that the sample's randomness depends on."""

    sample: int  # position in the data set, or `PADDING`
    epoch: int  # counted from 0
    size: Size  # wanted height and width of the image
    copy: int = 0  # number of the copy, if an epoch shows a sample several times


class Scale(NamedTuple):
    """One image size of a multi-scale training."""

    size: Size
    images: int  # in an optimizer step, over all processes


@dataclass(frozen=True)
class MultiScale:
    """Image sizes from which every training step draws one (paper, section 4.1).

    The defaults are those of the release: 160 to 320 pixels around 256, in multiples of 32.

    Attributes:
        rule: Rule for the number of images of an optimizer step at a size. `balanced` (ml-cvnets of
            2023): the number of images that has as many pixels as the global batch: 2621, 1820,
            1024, 809, 655 at 160, 192, 256, 288, 320 for a global batch of 1024 at 256. `released`:
            the same number, but at least the global batch: 2621, 1820, 1024, 1024, 1024. The
            release rounds the number per process to a multiple of the number of processes (8 times
            328, 224, 128, 128, 128), so that its steps depend on the devices.
        smallest: Smallest height and width in units of the base size; default 160 / 256.
        largest: Largest height and width in units of the base size; default 320 / 256.
        count: Number of sizes from the smallest to the largest, before rounding.
        divisor: Divisor of all heights and widths.
    """

    rule: Literal["released", "balanced"] = "released"
    smallest: PositiveShare = 0.625
    largest: Annotated[float, Ge(1), Le(10)] = 1.25
    count: Count = 5
    divisor: Count = 32

    def scales(self, size: Size, global_batch: int) -> list[Scale]:
        """Return all sizes with their images, smallest first, always including the base size.

        Args:
            size: Base size.
            global_batch: Images of an optimizer step at the base size, over all processes.
        """
        shares = [*np.linspace(self.smallest, self.largest, self.count), 1.0]
        sizes = sorted(
            {
                (
                    make_divisible(size[0] * share, self.divisor),
                    make_divisible(size[1] * share, self.divisor),
                )
                for share in shares
            }
        )
        return [Scale(each, self.images(each, size, global_batch)) for each in sizes]

    def images(self, size: Size, base: Size, global_batch: int) -> int:
        """Return the number of images of an optimizer step at one size."""
        # Rounded twice, as in both sources.
        same_pixels = int(round(base[0] * base[1] * global_batch / (size[0] * size[1]), 2))
        return max(1 if self.rule == "balanced" else global_batch, same_pixels)

    def of_epoch(self, scales: list[Scale], epoch: int) -> list[Scale]:
        """Return the sizes from which the steps of an epoch, counted from 0, draw."""
        return scales


@dataclass(frozen=True)
class Progressive(MultiScale):
    """Image sizes that grow during the training (arXiv 2104.00298, section 4).

    Every epoch has one size. It rises from the smallest to the largest in equal parts of the first
    `epochs` epochs, and stays the largest.

    Attributes:
        largest: Largest height and width in units of the base size.
        epochs: Number of epochs in which the size grows.
    """

    largest: Annotated[float, Ge(1), Le(10)] = 1.0
    epochs: Count = 1

    def of_epoch(self, scales: list[Scale], epoch: int) -> list[Scale]:
        """Return the one size of an epoch, counted from 0."""
        return [scales[min(epoch * len(scales) // self.epochs, len(scales) - 1)]]


class Plan(NamedTuple):
    """Sizes and positions of the batches of one epoch."""

    scales: list[Scale]  # one per batch, that of its step
    starts: npt.NDArray[np.int64]  # samples of all processes before each batch, and in total


class TrainBatches(Sampler[list[SampleKey]]):
    """Batches of a training: those of one of its processes.

    The samples of an optimizer step and their size depend only on seed, epoch and global batch. A
    step is divided into batches, and every batch among the processes; their numbers of samples may
    differ by one.

    Steps are always full: the last one is filled up from the beginning of the epoch's order. So no
    sample is left out, and the number of repeated samples is smaller than one step. A data set that
    is smaller than one step is repeated as a whole.

    Args:
        length: Number of samples in the data set.
        global_batch: Images of an optimizer step at the base size, over all processes.
        size: Base size of the images.
        seed: Seed of the run.
        rank: Rank of this process.
        world_size: Number of processes.
        accumulate: Batches per optimizer step.
        multi_scale: Image sizes to draw from; None: always the base size.
        repeats: Number of times that an epoch shows a sample, in a row and each time with another
            augmentation (repeated augmentation, arXiv 1902.05509). The epoch keeps its length, so
            it shows that many times fewer samples.
        epoch: First epoch.
        first_batch: First batch of that epoch, for a run that resumes within it.
        labels: Class of every sample, `(length,)`; every class then comes equally often, and a
            sample of a rare class several times per epoch, each with another augmentation. None:
            every sample comes once.

    Raises:
        ConfigError: If a step has too few images for all batches and processes.
    """

    def __init__(
        self,
        length: int,
        global_batch: int,
        size: Size,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        multi_scale: MultiScale | None = None,
        repeats: int = 1,
        epoch: int = 0,
        first_batch: int = 0,
        labels: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.length = length
        self.labels = labels
        self.global_batch = global_batch
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.accumulate = accumulate
        self.repeats = repeats
        self.epoch = epoch
        self.first_batch = first_batch
        self.multi_scale = multi_scale
        self.scales = [Scale(size, global_batch)]
        if multi_scale is not None:
            self.scales = multi_scale.scales(size, global_batch)
        least = min(self.scales, key=lambda scale: scale.images)
        if least.images // accumulate < world_size:
            height, width = least.size
            raise ConfigError(
                f"recipe.global_batch={global_batch}: a step at {height}x{width} pixels has "
                f"{least.images} images; expected at least {accumulate * world_size}, one for each "
                f"of {accumulate} batches of {world_size} processes. Fix: lower recipe.accumulate, "
                "or use fewer devices"
            )
        self.plan = lru_cache(maxsize=2)(self._plan)

    @property
    def sampler(self) -> TrainBatches:
        """This object; Lightning calls `set_epoch` on it."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, counted from 0."""
        if epoch != self.epoch:
            self.first_batch = 0
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches per epoch, including those before `first_batch`."""
        return len(self.plan(self.epoch).scales)

    def _plan(self, epoch: int) -> Plan:
        # A separate random stream, so that the order of the samples does not depend on the sizes.
        random = np.random.default_rng([self.seed, epoch, 1])
        possible = self.scales
        if self.multi_scale is not None:
            possible = self.multi_scale.of_epoch(self.scales, epoch)
        scales, starts, parts = [], [0], range(1, self.accumulate + 1)
        while (start := starts[-1]) < self.length:
            scale = possible[random.integers(len(possible))]
            scales += [scale] * self.accumulate
            starts += [start + scale.images * part // self.accumulate for part in parts]
        return Plan(scales, np.array(starts))

    def position_of(self, epoch: int, step: int, samples: int) -> int | None:
        """Return the batch with which a step of an epoch begins.

        Args:
            epoch: Epoch, counted from 0.
            step: Step of this epoch, counted from 0.
            samples: Number of samples before it in this epoch.

        Returns:
            The batch; None if that many samples are not before that step.
        """
        starts = self.plan(epoch).starts[:: self.accumulate]
        fits = step < len(starts) and bool(starts[step] == samples)
        return step * self.accumulate if fits else None

    def share(self, epoch: int, batch: int) -> int:
        """Return the number of samples of this process in a batch of an epoch."""
        start, stop = self.plan(epoch).starts[batch : batch + 2].tolist()
        return len(range(start + self.rank, stop, self.world_size))

    def order(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return samples and copy numbers of an epoch, in the order of all processes."""
        random = np.random.default_rng([self.seed, epoch])
        count = self.plan(epoch).starts[-1]
        copies = np.tile(np.arange(self.repeats), math.ceil(self.length / self.repeats))
        if self.labels is None:
            order = random.permutation(self.length)
        else:
            shown = math.ceil(self.length / self.repeats)
            order, earlier = balanced_order(self.labels, shown, random)
            copies = copies + np.repeat(earlier, self.repeats) * self.repeats
        order = np.repeat(order, self.repeats)[: self.length]
        return np.resize(order, count), np.resize(copies[: self.length], count)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch = self.epoch
        scales, starts = self.plan(epoch)
        order, copies = self.order(epoch)
        for batch in range(self.first_batch, len(scales)):
            mine = slice(starts[batch] + self.rank, starts[batch + 1], self.world_size)
            yield [
                SampleKey(sample, epoch, scales[batch].size, copy)
                for sample, copy in zip(order[mine].tolist(), copies[mine].tolist(), strict=True)
            ]


def balanced_order(
    labels: npt.NDArray[np.int64], count: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return an order of samples with every class equally often.

    Within a class, every sample comes equally often, too; both up to a remainder of one, which is
    drawn.

    Args:
        labels: Class of every sample, `(n,)`.
        count: Number of samples to order.
        random: Random number generator.

    Returns:
        Samples `(count,)`, and how often each of them came before, `(count,)`.
    """
    names, sizes = np.unique(labels, return_counts=True)
    members_of = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    shares = np.full(len(names), count // len(names))
    shares[: count % len(names)] += 1
    chosen = []
    for place, share in zip(random.permutation(len(names)), shares, strict=True):
        members = members_of[place]
        rounds = [random.permutation(members) for _ in range(math.ceil(share / len(members)))]
        chosen.append(np.concatenate([members[:0], *rounds])[:share])
    order = random.permutation(np.concatenate(chosen))
    return order, occurrences(order)


def occurrences(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how often each value came before in an array, `(n,)`."""
    rank = np.argsort(values, kind="stable")
    ordered = values[rank]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    found = np.empty(len(values), np.int64)
    found[rank] = np.arange(len(values)) - np.repeat(
        starts, np.diff(np.append(starts, len(values)))
    )
    return found


class EvalBatches(Sampler[list[SampleKey]]):
    """Batches of an evaluation, divided among its processes: every sample exactly once.

    All batches have the same size, and all processes the same number of batches; padding fills them
    up. So the arithmetic of a sample does not depend on the number of samples beside it, and no
    process waits in vain for another one in a step.

    Args:
        length: Number of samples in the data set.
        batch_size: Images per process.
        size: Height and width of the images.
        rank: Rank of this process.
        world_size: Number of processes.
    """

    def __init__(
        self, length: int, batch_size: int, size: Size, rank: int = 0, world_size: int = 1
    ) -> None:
        self.length = length
        self.batch_size = min(batch_size, length)
        self.size = size
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        """Return the number of batches of every process."""
        return math.ceil(self.length / self.world_size / self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        samples = list(range(self.rank, self.length, self.world_size))
        samples += [PADDING] * (len(self) * self.batch_size - len(samples))
        for start in range(0, len(samples), self.batch_size):
            chosen = samples[start : start + self.batch_size]
            yield [SampleKey(sample, 0, self.size) for sample in chosen]

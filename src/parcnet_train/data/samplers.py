"""Composition and image size of every batch, determined by (seed, epoch) only."""

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
    batch_size: int  # per process


@dataclass(frozen=True)
class MultiScale:
    """Image sizes from which every training step draws one (paper, section 4.1).

    The defaults are those of the release: 160 to 320 pixels around 256, in multiples of 32.

    Attributes:
        rule: Rule for the number of images per step at a size. `balanced` (ml-cvnets of 2023): the
            number of images that has as many pixels as the base batch: 327, 227, 128, 101, 81 at
            160, 192, 256, 288, 320 for a base batch of 128 at 256. `released`: the same number, but
            at least the base batch, rounded to a multiple of the number of processes: 328, 224,
            128, 128, 128 for 8 processes.
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

    def scales(self, size: Size, batch_size: int, world_size: int) -> list[Scale]:
        """Return all sizes with their batch sizes, smallest first, always including the base size.

        Args:
            size: Base size.
            batch_size: Images per process at the base size.
            world_size: Number of processes.
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
        return [Scale(each, self.batch_size(each, size, batch_size, world_size)) for each in sizes]

    def batch_size(self, size: Size, base: Size, batch_size: int, world_size: int) -> int:
        """Return the number of images per process in a step at one size."""
        # Rounded twice, as in both sources.
        same_pixels = int(round(base[0] * base[1] * batch_size / (size[0] * size[1]), 2))
        if self.rule == "balanced":
            return max(1, same_pixels)
        return make_divisible(max(batch_size, same_pixels), world_size)

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
    """Sizes and positions of the steps of one epoch."""

    scales: list[Scale]  # one per step
    starts: npt.NDArray[np.int64]  # samples of all processes before each step, and in total


class TrainBatches(Sampler[list[SampleKey]]):
    """Batches of a training, divided among its processes, which all draw the same image sizes.

    Batches are always full: the last one is filled up from the beginning of the epoch's order. So
    no sample is left out, and the number of repeated samples is smaller than one step of all
    processes. A data set that is smaller than one step is repeated as a whole.

    Args:
        length: Number of samples in the data set.
        batch_size: Images per process at the base size.
        size: Base size of the images.
        seed: Seed of the run.
        rank: Rank of this process.
        world_size: Number of processes.
        multi_scale: Image sizes to draw from; None: always the base size.
        repeats: Number of times that an epoch shows a sample, in a row and each time with another
            augmentation (repeated augmentation, arXiv 1902.05509). The epoch keeps its length, so
            it shows that many times fewer samples.
        epoch: First epoch.
        first_batch: First batch of that epoch, for a run that resumes within it.
        labels: Class of every sample, `(length,)`; every class then comes equally often, and a
            sample of a rare class several times per epoch, each with another augmentation. None:
            every sample comes once.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        size: Size,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        multi_scale: MultiScale | None = None,
        repeats: int = 1,
        epoch: int = 0,
        first_batch: int = 0,
        labels: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.length = length
        self.labels = labels
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.repeats = repeats
        self.epoch = epoch
        self.first_batch = first_batch
        self.multi_scale = multi_scale
        self.scales = [Scale(size, batch_size)]
        if multi_scale is not None:
            self.scales = multi_scale.scales(size, batch_size, world_size)
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
        scales, starts = [], [0]
        while starts[-1] < self.length:
            scale = possible[random.integers(len(possible))]
            scales.append(scale)
            starts.append(starts[-1] + scale.batch_size * self.world_size)
        return Plan(scales, np.array(starts))

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
        for step in range(self.first_batch, len(scales)):
            mine = slice(starts[step] + self.rank, starts[step + 1], self.world_size)
            yield [
                SampleKey(sample, epoch, scales[step].size, copy)
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

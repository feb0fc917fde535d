"""Which samples make a batch, and at which size: a function of (seed, epoch) alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from parcnet_train.data.batches import PADDING
from parcnet_train.sizes import Size, make_divisible


class SampleKey(NamedTuple):
    """What a data set is asked for; carries all that a sample's randomness depends on."""

    sample: int  # position in the data set, or `PADDING`
    epoch: int  # counted from 0
    size: Size  # of the image that is wanted
    copy: int = 0  # which one, where an epoch shows a sample several times


class Scale(NamedTuple):
    """One image size of a multi-scale training."""

    size: Size
    batch_size: int  # of each process


@dataclass(frozen=True)
class MultiScale:
    """Image sizes of a training, of which every step draws one (paper, section 4.1).

    The numbers are those of the release: 160 to 320 pixels around 256, in multiples of 32.

    Attributes:
        rule: how many images a step takes at a size. `released`: as many as have the pixels of the
            base batch, but never fewer than the base batch, and a multiple of the processes; with
            128 at 256 and 8 processes 328, 224, 128, 128, 128 at 160, 192, 256, 288, 320.
            `balanced` (ml-cvnets of 2023): as many as have the pixels of the base batch, at every
            size: 327, 227, 128, 101, 81.
        smallest: height and width in units of the base size; 160 / 256.
        largest: the same; 320 / 256.
        count: sizes from the smallest to the largest, before they are rounded.
        divisor: heights and widths are multiples of it.
    """

    rule: Literal["released", "balanced"] = "released"
    smallest: float = 0.625
    largest: float = 1.25
    count: int = 5
    divisor: int = 32

    def scales(self, size: Size, batch_size: int, world_size: int) -> list[Scale]:
        """The sizes with their batches, smallest first; the base size is always one of them.

        Args:
            size: the base size.
            batch_size: of each process, at the base size.
            world_size: number of processes.
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
        """Images of each process in a step of one size."""
        # Rounded twice, as both sources do.
        same_pixels = int(round(base[0] * base[1] * batch_size / (size[0] * size[1]), 2))
        if self.rule == "balanced":
            return max(1, same_pixels)
        return make_divisible(max(batch_size, same_pixels), world_size)


class Plan(NamedTuple):
    """The steps of one epoch."""

    scales: list[Scale]  # of every step
    starts: npt.NDArray[np.int64]  # samples of all processes before every step, and after the last


class TrainBatches(Sampler[list[SampleKey]]):
    """Batches of a training, sharded over its processes; all of them draw the same sizes.

    Batches are always full: the last one is topped up from the beginning of the epoch's order, so
    fewer samples are seen again in an epoch than one step of all processes takes, and none is left
    out; a set smaller than that repeats as a whole.

    Args:
        length: samples in the data set.
        batch_size: of each process, at the base size.
        size: the base size of the images.
        seed: of the run.
        rank: this process.
        world_size: number of processes.
        multi_scale: sizes to draw from; None keeps the base size.
        repeats: times that an epoch shows a sample, each augmented anew, one behind the other
            (repeated augmentation, arXiv 1901.09335); the epoch keeps its length, so it shows that
            many times fewer samples.
        epoch: to begin with.
        first_batch: of that epoch, where a run goes on in the middle of it.
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
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.repeats = repeats
        self.epoch = epoch
        self.first_batch = first_batch
        self.scales = [Scale(size, batch_size)]
        if multi_scale is not None:
            self.scales = multi_scale.scales(size, batch_size, world_size)
        self.plan = lru_cache(maxsize=2)(self._plan)

    @property
    def sampler(self) -> TrainBatches:
        """Itself: Lightning looks here for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration, counted from 0."""
        if epoch != self.epoch:
            self.first_batch = 0
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of this process in the chosen epoch, also of one that begins in its middle."""
        return len(self.plan(self.epoch).scales)

    def _plan(self, epoch: int) -> Plan:
        # A stream of its own, so that the order of the samples does not depend on the sizes.
        random = np.random.default_rng([self.seed, epoch, 1])
        scales, starts = [], [0]
        while starts[-1] < self.length:
            scale = self.scales[random.integers(len(self.scales))]
            scales.append(scale)
            starts.append(starts[-1] + scale.batch_size * self.world_size)
        return Plan(scales, np.array(starts))

    def order(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Samples of an epoch, in the order of all processes, and which copy each one is."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
        count = self.plan(epoch).starts[-1]
        copies = np.tile(np.arange(self.repeats), math.ceil(self.length / self.repeats))
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


class EvalBatches(Sampler[list[SampleKey]]):
    """Batches of an evaluation, sharded over its processes: every sample exactly once.

    All batches have one size, and all processes the same number of them, filled up with empty
    places: the arithmetic of a sample does not depend on how many stand beside it, and processes
    that wait for each other in a step never wait in vain.

    Args:
        length: samples in the data set.
        batch_size: of each process.
        size: of the images.
        rank: this process.
        world_size: number of processes.
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
        """Batches of every process."""
        return math.ceil(self.length / self.world_size / self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        samples = list(range(self.rank, self.length, self.world_size))
        samples += [PADDING] * (len(self) * self.batch_size - len(samples))
        for start in range(0, len(samples), self.batch_size):
            chosen = samples[start : start + self.batch_size]
            yield [SampleKey(sample, 0, self.size) for sample in chosen]

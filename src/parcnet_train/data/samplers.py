"""Which samples make a batch: a function of (seed, epoch) alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class SampleKey(NamedTuple):
    """What a data set is asked for; carries all that a sample's randomness depends on."""

    sample: int  # position in the data set
    epoch: int  # counted from 0


class EpochBatchSampler(Sampler[list[SampleKey]]):
    """Batches of sample keys, sharded over the processes of a run.

    Training batches are always full: the last one is topped up from the beginning of the epoch's
    order, so at most `batch_size * world_size - 1` samples are seen again in an epoch and none is
    left out; a set smaller than that repeats as a whole. Evaluation sees every sample exactly once.

    Args:
        length: samples in the data set.
        batch_size: per process.
        seed: of the run.
        train: shuffle, and keep batches full.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        train: bool,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.train = train
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    @property
    def sampler(self) -> EpochBatchSampler:
        """Itself: Lightning looks here for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of this process."""
        if self.train:
            return math.ceil(self.length / (self.batch_size * self.world_size))
        return math.ceil(len(range(self.rank, self.length, self.world_size)) / self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order = np.arange(self.length)
        if self.train:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
            order = np.resize(order, len(self) * self.batch_size * self.world_size)
        order = order[self.rank :: self.world_size]
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield [SampleKey(int(index), self.epoch) for index in chosen]

"""Looks at files of a data set before a training: at some of them, or at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np

from parcnet_train.data.loading import processors_of_this_process
from parcnet_train.data.preparing import progress
from parcnet_train.errors import DataError

SAMPLE = 32  # files of a list that are looked at when a run starts
SHOWN = 10  # faults that are told one by one
BLOCK = 64  # samples that are read ahead


class Viewed(Protocol):
    """Samples that can be looked at."""

    def look(self, sample: int) -> Any:
        """Reads a sample, and raises `DataError` where something is wrong with it."""


class Seen(NamedTuple):
    """What came of looking at a sample."""

    sample: int
    result: Any  # of `look`
    error: DataError | None


def evenly_spread(length: int, count: int = SAMPLE) -> list[int]:
    """So many positions of a list, its first and its last among them; all where it is shorter."""
    positions: list[int] = np.unique(np.linspace(0, length - 1, count).round().astype(int)).tolist()
    return positions


def look_at(dataset: Viewed, samples: Sequence[int], title: str | None = None) -> Iterator[Seen]:
    """Looks at samples, several at a time, and gives them back in their order.

    Args:
        dataset: has them.
        samples: positions.
        title: of a progress bar, which is shown where somebody looks; None: none.
    """

    def look(sample: int) -> Seen:
        try:
            return Seen(sample, dataset.look(sample), None)
        except DataError as error:
            return Seen(sample, None, error)

    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(processors_of_this_process()))
        bar = stack.enter_context(progress(title, len(samples))) if title else None
        for start in range(0, len(samples), BLOCK):
            for seen in pool.map(look, samples[start : start + BLOCK]):
                yield seen
                if bar is not None:
                    bar.update()


def refuse(faults: Sequence[str]) -> None:
    """Raises the first faults, and how many more there are.

    Raises:
        DataError: where there is any; a line for each.
    """
    if faults:
        more = len(faults) - SHOWN
        rest = [f"and {more:,} more of the files have a fault"] if more > 0 else []
        raise DataError("\n".join([*faults[:SHOWN], *rest]))

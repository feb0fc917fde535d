"""Looks at files of a data set before a training: at some of them, or at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from parcnet_train.data.loading import processors_of_this_process
from parcnet_train.data.preparing import progress
from parcnet_train.errors import DataError, UnreadableError

SAMPLE = 32  # files of a list that are looked at when a run starts
SHOWN = 10  # faults that are told one by one


class Viewed(Protocol):
    """Samples that can be looked at."""

    def look(self, sample: int) -> Any:
        """Reads a sample, and raises `DataError` where something is wrong with it."""


def evenly_spread(length: int, count: int = SAMPLE) -> list[int]:
    """So many positions of a list, its first and its last among them; all where it is shorter."""
    return np.unique(np.linspace(0, length - 1, count).round().astype(int)).tolist()


def look_at(
    dataset: Viewed, samples: Sequence[int], title: str | None = None, may_skip: bool = False
) -> tuple[dict[int, Any], list[str]]:
    """Looks at samples, several at a time.

    Args:
        dataset: has them.
        samples: positions.
        title: of a progress bar.
        may_skip: whether an unreadable file is no fault.

    Returns:
        What was seen, by position, and one line per fault.
    """

    def look(sample: int) -> tuple[int, Any, DataError | None]:
        try:
            return sample, dataset.look(sample), None
        except DataError as error:
            return sample, None, error

    seen, faults = {}, []
    with ThreadPoolExecutor(processors_of_this_process()) as pool:
        found = pool.map(look, samples)
        for sample, result, error in with_progress(found, title, len(samples)):
            if error is None:
                seen[sample] = result
            elif not (may_skip and isinstance(error, UnreadableError)):
                faults.append(str(error))
    return seen, faults


def with_progress(items: Iterable[Any], title: str | None, total: int) -> Iterator[Any]:
    """The same, counted by a progress bar where it has a title."""
    if title is None:
        yield from items
        return
    with progress(title, total) as bar:
        for item in items:
            yield item
            bar.update()


def refuse(faults: Sequence[str]) -> None:
    """Raises the first faults, and how many more there are.

    Raises:
        DataError: where there is any; a line for each.
    """
    if faults:
        more = len(faults) - SHOWN
        rest = [f"and {more:,} more files have such faults"] if more > 0 else []
        raise DataError("\n".join([*faults[:SHOWN], *rest]))

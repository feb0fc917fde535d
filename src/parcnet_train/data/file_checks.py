"""Looks at files of a data set before a training: at some of them, or at all."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from parcnet_train.distributed.processes import own_cores
from parcnet_train.errors import DataError, UnreadableError
from parcnet_train.files import read_regular
from parcnet_train.terminal import progress

log = logging.getLogger(__name__)

SAMPLE = 32  # files of a list that are looked at when a run starts
SHOWN = 10  # faults that are told one by one
BLOCK = 64  # samples that are read ahead
COMPARED = 256  # files of the validation set that are compared with the training set's
SIZED = 2048  # files of one set, about, that are compared with others of their name


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
        pool = stack.enter_context(ThreadPoolExecutor(own_cores()))
        bar = stack.enter_context(progress(title, len(samples))) if title else None
        for start in range(0, len(samples), BLOCK):
            for seen in pool.map(look, samples[start : start + BLOCK]):
                yield seen
                if bar is not None:
                    bar.update()


def faults_of_some(dataset: Viewed, length: int, may_skip: bool) -> list[str]:
    """Looks at some samples of a set, spread over it.

    Args:
        dataset: Set of samples.
        length: Number of its samples.
        may_skip: Whether an unreadable file is no fault.

    Returns:
        One line per fault.
    """
    return [
        str(seen.error)
        for seen in look_at(dataset, evenly_spread(length))
        if seen.error is not None and not (may_skip and isinstance(seen.error, UnreadableError))
    ]


class Listed(NamedTuple):
    """The files of a set."""

    source: Path  # the list, annotation file or folder that names them, for messages
    folder: Path
    names: npt.NDArray[np.bytes_]  # within the folder


def warn_of_shared(training: Listed, validation: Listed) -> None:
    """Warns if images of the validation set are among those of the training set.

    Files of one folder are the same if their names are; of files with the same name in different
    folders, some are compared byte by byte.
    """
    shared = np.intersect1d(training.names, validation.names)
    is_one_folder = os.path.realpath(training.folder) == os.path.realpath(validation.folder)
    compared = len(validation.names)
    if not is_one_folder:
        shared = shared[evenly_spread(len(shared), COMPARED)] if len(shared) else shared
        compared = len(shared)
        files = map(os.fsdecode, shared.tolist())
        equal = [is_same(training.folder / file, validation.folder / file) for file in files]
        shared = shared[np.array(equal, dtype=np.bool_)]
    if len(shared):
        log.warning(
            "%s has %s of the %s images of %s%s, first %s: the metrics will be those of images "
            "that were trained on",
            training.source,
            f"{len(shared):,}",
            f"{compared:,}",
            validation.source,
            "" if is_one_folder else " with the same name that were compared",
            os.fsdecode(shared[0]),
        )


def warn_of_repeats(listed: Listed) -> None:
    """Warns if a set has an image more than once: by its name, or as a copy in another folder.

    Of files with the same name in different folders, some are compared by their contents.
    """
    names, counts = np.unique(listed.names, return_counts=True)
    if (counts > 1).any():
        first, number = os.fsdecode(names[counts > 1][0]), f"{(counts > 1).sum():,}"
        log.warning(
            "%s has %s more than once, as it does %s of its %s images; each counts as often",
            listed.source,
            first,
            number,
            f"{len(names):,}",
        )
    groups = namesakes(names)
    copies = [pair for group in groups for pair in equal_pairs(listed.folder, group)]
    if copies:
        log.warning(
            "%s has images more than once in different folders, %s among %s files with the same "
            "names that were compared; first %s and %s",
            listed.source,
            f"{len(copies):,}",
            f"{sum(map(len, groups)):,}",
            *copies[0],
        )


def namesakes(names: npt.NDArray[np.bytes_]) -> list[list[str]]:
    """Files that have the same name in different folders, by name; of many, some.

    Args:
        names: Paths of different files.
    """
    bases = np.array([name.rsplit(b"/", 1)[-1] for name in names.tolist()])
    order = np.argsort(bases, kind="stable")
    starts = np.flatnonzero(np.append(True, bases[order][1:] != bases[order][:-1]))
    ends = np.append(starts[1:], len(order))
    is_shared = ends - starts > 1
    starts, ends = starts[is_shared], ends[is_shared]
    if not len(starts):
        return []
    count = max(1, len(starts) * SIZED // max((ends - starts).sum(), SIZED))
    return [
        [*map(os.fsdecode, names[order[starts[group] : ends[group]]])]
        for group in evenly_spread(len(starts), count)
    ]


def equal_pairs(folder: Path, files: Sequence[str]) -> list[tuple[str, str]]:
    """Files of the same content: each with the one before it that has it, too."""
    by_size: dict[int, list[str]] = {}
    for file in files:
        with contextlib.suppress(OSError):
            by_size.setdefault((folder / file).stat().st_size, []).append(file)
    pairs = []
    for same in by_size.values():
        if len(same) > 1:
            seen: dict[bytes, str] = {}
            for file in same:
                with contextlib.suppress(OSError):
                    content = hashlib.sha256(read_regular(folder / file)).digest()
                    if content in seen:
                        pairs.append((seen[content], file))
                    seen[content] = file
    return pairs


def is_same(first: Path, second: Path) -> bool:
    """Whether two files have the same content."""
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False


def refuse(faults: Sequence[str]) -> None:
    """Raises the first faults, and how many more there are.

    Raises:
        DataError: where there is any; a line for each.
    """
    if faults:
        more = len(faults) - SHOWN
        rest = [f"and {more:,} more of the files have a fault"] if more > 0 else []
        raise DataError("\n".join([*faults[:SHOWN], *rest]))

"""Checks of the files of a data set before training: of a sample, or of all files."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from parcnet_train.data.stores.paths import AnyPath, real_path
from parcnet_train.distributed.threads import in_threads
from parcnet_train.errors import DataError, UnreadableError
from parcnet_train.files import read_regular

log = logging.getLogger(__name__)

SAMPLE = 32  # files of a list that are checked when a run starts
SHOWN = 10  # faults that a message lists
COMPARED = 256  # validation files that are compared with training files
SIZED = 2048  # approximate number of files of a set that are compared with files of the same name


class Viewed(Protocol):
    """Data set whose samples can be checked."""

    def look(self, sample: int) -> Any:
        """Read a sample; raises `DataError` if it is faulty."""


class Seen(NamedTuple):
    """Result of checking a sample."""

    sample: int
    result: Any  # return value of `look`
    error: DataError | None


def evenly_spread(length: int, count: int = SAMPLE) -> list[int]:
    """Return evenly spread positions of a list, including both ends; all if it is short."""
    positions: list[int] = np.unique(np.linspace(0, length - 1, count).round().astype(int)).tolist()
    return positions


def look_at(dataset: Viewed, samples: Sequence[int], title: str | None = None) -> Iterator[Seen]:
    """Check samples in threads; the results come in order.

    Args:
        dataset: Data set of the samples.
        samples: Positions in the data set.
        title: Title of a progress bar, shown in a terminal; None: no bar.
    """

    def look(sample: int) -> Seen:
        try:
            return Seen(sample, dataset.look(sample), None)
        except DataError as error:
            return Seen(sample, None, error)

    return in_threads(look, samples, title)


def faults_of_some(dataset: Viewed, length: int, may_skip: bool) -> list[str]:
    """Check some samples of a data set, evenly spread over it.

    Args:
        dataset: Data set.
        length: Number of its samples.
        may_skip: Whether unreadable files are tolerated.

    Returns:
        One line per fault.
    """
    return [
        str(seen.error)
        for seen in look_at(dataset, evenly_spread(length))
        if seen.error is not None and not (may_skip and isinstance(seen.error, UnreadableError))
    ]


class Listed(NamedTuple):
    """Files of a data set."""

    source: AnyPath  # list, annotation file or folder that they come from, for messages
    folder: AnyPath
    names: npt.NDArray[np.bytes_]  # relative to the folder


def warn_of_shared(training: Listed, validation: Listed) -> None:
    """Warn if images of the validation set are also in the training set.

    In one folder, files with the same path are the same. In different folders, some of the files
    with the same path are compared byte by byte.
    """
    shared = np.intersect1d(training.names, validation.names)
    is_one_folder = real_path(training.folder) == real_path(validation.folder)
    compared = len(validation.names)
    if not is_one_folder:
        shared = shared[evenly_spread(len(shared), COMPARED)] if len(shared) else shared
        compared = len(shared)
        files = map(os.fsdecode, shared.tolist())
        equal = [is_same(training.folder / file, validation.folder / file) for file in files]
        shared = shared[np.array(equal, dtype=np.bool_)]
    if len(shared):
        log.warning(
            "%s contains %s of the %s images of %s%s (first: %s); the metrics will include images "
            "that were used for training",
            training.source,
            f"{len(shared):,}",
            f"{compared:,}",
            validation.source,
            "" if is_one_folder else " with the same name that were compared",
            os.fsdecode(shared[0]),
        )


def warn_of_repeats(listed: Listed) -> None:
    """Warn if a data set contains an image twice: under one path, or as a copy in another folder.

    Of the files with the same name in different folders, some are compared by content.
    """
    names, counts = np.unique(listed.names, return_counts=True)
    if (counts > 1).any():
        log.warning(
            "%s contains %s of its %s images more than once (first: %s); each occurrence counts",
            listed.source,
            f"{(counts > 1).sum():,}",
            f"{len(names):,}",
            os.fsdecode(names[counts > 1][0]),
        )
    groups = namesakes(names)
    copies = [pair for group in groups for pair in equal_pairs(listed.folder, group)]
    if copies:
        log.warning(
            "%s contains copies of images in different folders (%s among %s compared files with "
            "the same names; first: %s and %s)",
            listed.source,
            f"{len(copies):,}",
            f"{sum(map(len, groups)):,}",
            *copies[0],
        )


def namesakes(names: npt.NDArray[np.bytes_]) -> list[list[str]]:
    """Group files that have the same name in different folders; only some groups if there are many.

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


def equal_pairs(folder: AnyPath, files: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of files with the same content: each file and the previous one equal to it."""
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


def is_same(first: AnyPath, second: AnyPath) -> bool:
    """Return whether two files have the same content."""
    try:
        if first.stat().st_size != second.stat().st_size:
            return False
        return read_regular(first) == read_regular(second)
    except OSError:
        return False


def refuse(faults: Sequence[str]) -> None:
    """Raise an error that lists the first faults and the number of the others.

    Raises:
        DataError: If there are faults; one line per fault.
    """
    if faults:
        more = len(faults) - SHOWN
        rest = [f"{more:,} more files have faults"] if more > 0 else []
        raise DataError("\n".join([*faults[:SHOWN], *rest]))

"""The one pass over all files of a data set: in processes, with a cache from which it resumes.

The cache is a text file to which every finished file adds a line, so a check that was killed loses
at most a few hundred files, and a second check reads only what has changed since.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from parcnet_train.compat.malloc import keep_freed_memory
from parcnet_train.data.stores.paths import AnyPath, StoredPath, read_ahead
from parcnet_train.distributed.processes import PR_SET_PDEATHSIG, own_cores
from parcnet_train.doctor.reading.facts import MISSING, PROBLEMS, Facts
from parcnet_train.terminal import progress

VERSION = 3  # of the facts; a change makes older caches useless
CHUNK = 64  # files that a process reads at a time
FEW = 512  # files that are read faster than processes start

Read = Callable[[AnyPath], tuple[Any, ...]]  # the facts about a file, the first one its problem

COLUMNS = np.dtype(
    [
        ("problem", np.uint8),
        ("height", np.int64),
        ("width", np.int64),
        ("turned", np.bool_),
        ("digest", np.uint64),
        ("hash", np.uint64),
        ("spread", np.float32),
        ("bright", np.float32),
        ("sharpness", np.float32),
        ("kind", np.uint8),
        ("mode", np.uint8),
    ]
)
MEASURED = ("height", "width", "turned", "digest", "hash", "spread", "bright", "sharpness")


class FactsTable:
    """Facts about many images, about 60 bytes per image.

    Args:
        length: Number of images.
    """

    def __init__(self, length: int) -> None:
        self.columns = np.zeros(length, COLUMNS)
        self.reasons: dict[int, str] = {}
        self.words = {"kind": [""], "mode": [""]}

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self.columns[name]

    def put(self, place: int, facts: Facts) -> None:
        """Set the facts about an image."""
        row = self.columns[place]
        for name in MEASURED:
            row[name] = getattr(facts, name)
        row["problem"] = PROBLEMS.index(facts.problem)
        for name, known in self.words.items():
            word = getattr(facts, name)
            if word not in known:
                known.append(word)
            row[name] = known.index(word)
        if facts.reason:
            self.reasons[place] = facts.reason

    def has(self, problem: str) -> npt.NDArray[np.bool_]:
        """Return which images have a problem."""
        return np.asarray(self["problem"] == PROBLEMS.index(problem))

    def word(self, name: str, place: int) -> str:
        """Return the format (`kind`) or the mode of an image."""
        return self.words[name][int(self[name][place])]

    def is_measured(self) -> npt.NDArray[np.bool_]:
        """Return which images were decoded."""
        return (self["digest"] > 0) & (self.has("") | self.has("damaged"))


@dataclass
class Pace:
    """Numbers of files of a pass.

    Attributes:
        files: Number of all files.
        known: Number of files whose facts were in the cache.
    """

    files: int = 0
    known: int = 0


def scan(
    paths: Sequence[AnyPath], read: Read, cache: Path | None, title: str, pace: Pace
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Read the facts about files, in any order.

    Args:
        paths: Paths of the files.
        read: Function that reads the facts about a file, which a process can be given.
        cache: File of the facts that are known already, to which new ones are added; None: no file.
        title: Title of the progress bar.
        pace: Counts of files, to which these are added.

    Yields:
        Position and facts of every file; facts from the cache are lists where they were tuples.
    """
    states = [state_of(path) for path in paths]
    known: dict[int, tuple[Any, ...]] = {}
    if cache is not None:
        places = {str(path): place for place, path in enumerate(paths)}
        known = dict(read_cache(cache, places, states))
    pace.files += len(paths)
    pace.known += len(known)
    yield from known.items()
    waiting = [place for place in range(len(paths)) if place not in known]
    if not waiting:
        return
    with progress(title, len(paths)) as bar:
        bar.update(len(known))
        with open_cache(cache) as file:
            for chunk, found in facts_of_chunks(paths, waiting, read):
                lines = []
                for place, facts in zip(chunk, found, strict=True):
                    yield place, facts
                    if states[place] is not None and facts[0] != MISSING:
                        entry = [str(paths[place]), states[place], facts]
                        lines.append(json.dumps(entry) + "\n")
                file.write("".join(lines))
                file.flush()
                bar.update(len(chunk))


def facts_of_chunks(
    paths: Sequence[AnyPath], waiting: Sequence[int], read: Read
) -> Iterator[tuple[Sequence[int], list[tuple[Any, ...]]]]:
    """Yield chunks of positions with their facts: in this process if there are few."""
    chunks = [waiting[start : start + CHUNK] for start in range(0, len(waiting), CHUNK)]
    read_all = functools.partial(read_chunk, read)
    # A store's files are fetched at once; its listing would be sent to every process.
    if len(waiting) <= FEW or isinstance(paths[0], StoredPath):
        for chunk in chunks:
            some = [paths[place] for place in chunk]
            with read_ahead(some):
                found = read_all(some)
            yield chunk, found
        return
    workers = own_cores()
    # A forked process would inherit the threads' locks of PyTorch and OpenCV.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, start_scanner, (os.getpid(),))
    running: dict[Future[list[tuple[Any, ...]]], Sequence[int]] = {}
    try:
        for chunk in chunks:
            running[pool.submit(read_all, [paths[place] for place in chunk])] = chunk
            if len(running) > 2 * workers:  # what waits takes memory
                yield from finished(running)
        while running:
            yield from finished(running)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def finished(
    running: dict[Future[list[tuple[Any, ...]]], Sequence[int]],
) -> Iterator[tuple[Sequence[int], list[tuple[Any, ...]]]]:
    """Wait for some chunks, and yield those that are done."""
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        yield running.pop(future), future.result()


def read_chunk(read: Read, paths: Sequence[AnyPath]) -> list[tuple[Any, ...]]:
    """Read the facts about some files."""
    return [read(path) for path in paths]


def start_scanner(parent: int) -> None:
    """Initialize a process: one thread, SIGINT ignored; it ends with its parent on Linux."""
    keep_freed_memory()  # a third of the time of a mask of 1280x960
    cv2.setNumThreads(0)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the report says it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def cache_file(folder: Path, *settings: object) -> Path:
    """Return the file of known facts for some settings, on which the facts depend."""
    text = json.dumps([VERSION, *map(str, settings)])
    return folder / "check" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsonl"


def state_of(path: AnyPath) -> tuple[int, int] | None:
    """Return size and time of a file, by which a changed file is recognized; None without one."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def read_cache(
    cache: Path, places: dict[str, int], states: Sequence[tuple[int, int] | None]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the known facts about files that have not changed since.

    Args:
        cache: File of the facts.
        places: Position of every path.
        states: Size and time of every file.
    """
    try:
        file = cache.open(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    with file:
        for line in file:
            try:
                path, state, facts = json.loads(line)
                place = places.get(path)
                found = tuple(state), tuple(facts)
            # The last line of a check that was killed, or a line of something else.
            except (ValueError, TypeError, RecursionError):
                continue
            if place is not None and states[place] == found[0]:
                yield place, found[1]


def open_cache(cache: Path | None) -> Any:
    """Open the file of known facts to add lines; one that cannot be written keeps nothing."""
    try:
        if cache is None:
            raise OSError
        cache.parent.mkdir(parents=True, exist_ok=True)
        file = cache.open("a+b")
        # A line that was cut off by a kill must not be continued.
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")
        file.close()
        return cache.open("a", encoding="utf-8", errors="surrogateescape")
    except OSError:
        return Path(os.devnull).open("w")

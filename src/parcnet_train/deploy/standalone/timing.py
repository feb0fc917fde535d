"""Part of the script that times files: the timed rounds, and the machine that they run on.

The text of this module is copied into the script, so it must run with Python 3.9, NumPy and only
one runtime.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parcnet_train.deploy.runtimes import PACKAGES, Arrays
from parcnet_train.deploy.standalone.workers import (
    Images,
    Worker,
    WorkerError,
    footprint_of,
    workers,
)

WARMUP = 10  # rounds that are not timed
ITERATIONS = 100  # as in the paper's Table 3
BLOCK = 64  # images of a single stream until another file runs
LeaveOut = Callable[[Any, WorkerError], None]  # takes the name of a file, and why it cannot run


def of_working(
    names: Iterable[Any], work: Callable[[Any], Any], leave_out: LeaveOut
) -> dict[Any, Any]:
    """Call a function for each of several files, and return its results for those that can be run.

    Args:
        names: Names of the files.
        work: Function of a name.
        leave_out: Function that reports a file that cannot be run.
    """
    results = {}
    for name in names:
        try:
            results[name] = work(name)
        except WorkerError as error:
            leave_out(name, error)
    return results


class OpenFile:
    """File that the process of its runtime has opened.

    Args:
        worker: The process.
        path: Path of the file.
        footprint: Size, load time and memory of the file; see `Models.footprint`.
    """

    def __init__(self, worker: Worker, path: Path, footprint: Mapping[str, Any]) -> None:
        self.worker, self.path, self.footprint = worker, path, footprint

    def outputs(self) -> Arrays:
        """Return the outputs for the first image, by name."""
        return dict(self.worker.ask("outputs", self.path))

    def time(self, indices: Sequence[int]) -> list[float]:
        """Return the duration of an inference of each of some images, in milliseconds."""
        return list(self.worker.ask("time", self.path, indices))

    def time_once(self) -> float:
        """Return the duration of an inference of the first image, in milliseconds."""
        return self.time([0])[0]


@contextlib.contextmanager
def opened(
    script: Path,
    files: Mapping[Any, tuple[str, Path, Images]],
    threads: int,
    leave_out: LeaveOut,
) -> Iterator[dict[Any, OpenFile]]:
    """Measure the footprints of files, and open them; each runtime has a process of its own.

    Args:
        script: Path of the script, which the processes run.
        files: Runtime, path and images of each file, by name.
        threads: Number of threads per inference.
        leave_out: Function that reports a file that cannot be run.

    Yields:
        The open files by name, of those that can be run. The processes end afterwards.
    """

    def footprint(name: Any) -> dict[str, Any]:
        runtime, path, images = files[name]
        return footprint_of(script, runtime, threads, path, images)

    footprints = of_working(files, footprint, leave_out)
    with workers(script, (files[name][0] for name in footprints), threads) as running:

        def open_file(name: Any) -> OpenFile:
            runtime, path, images = files[name]
            running[runtime].ask("open", path, images)
            return OpenFile(running[runtime], path, footprints[name])

        yield of_working(footprints, open_file, leave_out)


def of_any(times: dict[Any, list[float]]) -> dict[Any, list[float]]:
    """Return the times of files.

    Raises:
        WorkerError: If there are none.
    """
    if not times:
        raise WorkerError("no file is left that can be run. Fix: see why they are left out, above")
    return times


def in_rounds(
    runs: Mapping[Any, Callable[[], float]],
    leave_out: LeaveOut,
    iterations: int,
    warmup: int = WARMUP,
) -> dict[Any, list[float]]:
    """Time several inferences, interleaved: every round runs all of them in a new random order.

    Other work on the machine then affects all of them alike.

    Args:
        runs: Functions that time one inference, in milliseconds, by name.
        leave_out: Function that reports a file that cannot be run any more.
        iterations: Number of timed rounds.
        warmup: Number of rounds before them that do not count.

    Returns:
        The milliseconds of every iteration, by name.

    Raises:
        WorkerError: If no file can be run.
    """
    times: dict[Any, list[float]] = {name: [] for name in runs}
    for index in range(warmup + iterations):
        shuffled = random.sample(list(times), len(times))
        found = of_working(shuffled, lambda name: runs[name](), leave_out)
        times = {name: times[name] for name in times if name in found}
        if index >= warmup:
            for name, milliseconds in found.items():
                times[name].append(milliseconds)
    return of_any(times)


def single_stream(
    runs: Mapping[Any, Callable[[Sequence[int]], Sequence[float]]],
    leave_out: LeaveOut,
    images: int,
    least_images: int,
    least_seconds: float,
    block: int = BLOCK,
) -> dict[Any, list[float]]:
    """Time several inferences on many images, one image after the other, interleaved in blocks.

    Every round runs a block of all inferences that are not done, in a new random order; the images
    are drawn uniformly, with replacement.

    Args:
        runs: Functions that time the inference of some images, in milliseconds, by name.
        leave_out: Function that reports a file that cannot be run any more.
        images: Number of images to draw from.
        least_images: Smallest number of inferences of each.
        least_seconds: Smallest sum of their durations, in seconds.
        block: Images of a block.

    Returns:
        The milliseconds of every inference, by name.

    Raises:
        WorkerError: If no file can be run.
    """
    times: dict[Any, list[float]] = {name: [] for name in runs}
    unfinished, generator = list(runs), np.random.default_rng(0)

    def run(name: Any) -> Sequence[float]:
        return runs[name](generator.integers(images, size=block).tolist())

    while unfinished:
        found = of_working(random.sample(unfinished, len(unfinished)), run, leave_out)
        for name in unfinished:
            if name in found:
                times[name] += found[name]
            else:
                del times[name]
        unfinished = [
            name
            for name, each in times.items()
            if len(each) < least_images or sum(each) < 1e3 * least_seconds
        ]
    return of_any(times)


def summary(milliseconds: Sequence[float]) -> dict[str, float]:
    """Return the statistics of a model's times that are reported."""
    median, p90, p99 = np.percentile(milliseconds, (50, 90, 99)).tolist()
    return {
        "milliseconds": median,
        "milliseconds_p90": p90,
        "milliseconds_p99": p99,
        "milliseconds_min": min(milliseconds),
    }


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[list[int] | None]:
    """Pin this process to as many of its cores as it has threads, if the system supports it.

    The last cores are used: the first one handles the interrupts, and on processors with different
    kinds of cores the last ones are the fast ones. On processors whose neighboring indices are
    threads of one core, two threads may share the last core; `hardware/pinned_to` has the indices.

    Yields:
        The indices of the cores; None if pinning is not supported.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before = os.sched_getaffinity(0)
    cores = sorted(before)[-threads:]
    keep_on(cores)
    try:
        yield cores
    finally:
        keep_on(before)


def keep_on(cores: Any) -> None:
    """Bind every existing thread to these cores; new threads inherit the setting."""
    tasks = Path("/proc/self/task")
    for thread in [int(each.name) for each in tasks.glob("*")] or [0]:
        with contextlib.suppress(OSError):  # the thread has ended
            os.sched_setaffinity(thread, cores)


def machine(threads: int, cores: Sequence[int] | None) -> dict[str, Any]:
    """Return the hardware and software that a measured time depends on.

    Args:
        threads: Number of threads per inference.
        cores: Indices of the cores that the process was pinned to.
    """
    first = cores[0] if cores else 0
    frequency = Path(f"/sys/devices/system/cpu/cpu{first}/cpufreq")
    return {
        "hardware/cpu": cpu_model(),
        "hardware/board": words_of(Path("/proc/device-tree/model")),
        "hardware/cores": os.cpu_count(),
        "hardware/threads": threads,
        "hardware/pinned_to": None if cores is None else list(cores),
        "hardware/governor": words_of(frequency / "scaling_governor"),
        "hardware/largest_khz": words_of(frequency / "cpuinfo_max_freq"),
        "system": platform.platform(),
        "python_version": platform.python_version(),
        "numpy_version": np.__version__,
        **{f"{name}_version": version_of(package) for name, (package, *_) in PACKAGES.items()},
    }


def cpu_model() -> str:
    """Return the processor's name, as the system reports it."""
    # As in runs/environment.py: this file is copied to devices without the rest of the package.
    for line in (words_of(Path("/proc/cpuinfo")) or "").splitlines():
        if line.startswith(("model name", "Hardware")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def words_of(path: Path) -> str | None:
    """Return the text of a system file, None if there is no such file."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return None


def version_of(package: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

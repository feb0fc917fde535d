"""The script that times exported files where this package is not installed.

`write_timer` joins this module with `runtimes.py`, `memory.py` and `workers.py`. The text must run
with Python 3.9, NumPy and only one of the runtimes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from parcnet_train.deploy.runtimes import PACKAGES, SUFFIXES
from parcnet_train.deploy.standalone.workers import Worker, WorkerError, footprint_of, workers

WARMUP = 10  # rounds that are not timed
ITERATIONS = 100  # as in the paper's Table 3
BLOCK = 64  # images of a single stream until another file runs
INTERRUPTED = 130  # exit status, as shells report Ctrl-C
# Columns of the printed table: the key, and what its values are divided by.
COLUMNS = {
    "median": ("milliseconds", 1),
    "p90": ("milliseconds_p90", 1),
    "p99": ("milliseconds_p99", 1),
    "load": ("load_milliseconds", 1),
    "file": ("bytes", 1e6),
    "memory": ("peak_memory_bytes", 1e6),
}


LeaveOut = Callable[[Any, WorkerError], None]  # takes the name of a file, and why it cannot run


def of_working(
    names: Iterable[Any], work: Callable[[Any], Any], leave_out: LeaveOut
) -> dict[Any, Any]:
    """Do something with each of several files, and return the results of those that can be run.

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


def size_of(path: Path, otherwise: Sequence[int]) -> tuple[int, int]:
    """Return the image height and width at the end of a file's name, `...-256x192.onnx`."""
    found = re.findall(r"(\d+)x(\d+)", path.stem)
    height, width = found[-1] if found else otherwise
    return int(height), int(width)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Time exported models, interleaved, batch size 1.",
        epilog="The JSON file has times, size, load time and memory of each file, the processor "
        "and versions. Files that cannot be run are reported and left out.",
    )
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        help=f"exported files ({', '.join(SUFFIXES)}), default: all beside this script",
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="threads per inference, default: %(default)s"
    )
    parser.add_argument(
        "--iterations", type=int, default=ITERATIONS, help="timed rounds, default: %(default)s"
    )
    parser.add_argument(
        "--warmup", type=int, default=WARMUP, help="untimed first rounds, default: %(default)s"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(256, 256),
        metavar=("HEIGHT", "WIDTH"),
        help="image size of files whose names do not end in it (-256x192), default: 256 256",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("latency.json"),
        help="JSON file to write, default: %(default)s",
    )
    given = parser.parse_args()
    if min(given.threads, given.iterations) < 1 or given.warmup < 0:
        parser.error("--threads and --iterations must be at least 1, --warmup at least 0")
    if given.threads > usable_cores():
        parser.error(f"--threads {given.threads}: this process has {usable_cores()} cores")
    if min(given.size) < 1:
        parser.error("--size: height and width must be at least 1")
    folder = given.output.absolute().parent
    if given.output.is_dir() or not (folder.is_dir() and os.access(folder, os.W_OK)):
        parser.error(f"--output {given.output}: expected a file in a folder that can be written")
    beside = sorted(each for each in Path(__file__).parent.iterdir() if each.suffix in SUFFIXES)
    for file in given.files:
        if file.suffix not in SUFFIXES or not file.is_file():
            parser.error(f"{file}: expected an existing file that ends in {', '.join(SUFFIXES)}")
    # Relative paths, which are the names of the results; a file that is given twice counts once.
    files = dict.fromkeys(Path(os.path.relpath(each)) for each in given.files or beside)
    given.files = [each for each in files if can_run(each)]
    if not given.files:
        parser.error(
            f"there is no file that can be timed. Fix: name files ({', '.join(SUFFIXES)}), or put "
            "this script beside them; install what is named above"
        )
    return given


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def can_run(file: Path) -> bool:
    """Return whether the runtime of a file is installed; if it is not, report it."""
    packages = PACKAGES[SUFFIXES[file.suffix]]
    missing = [
        each for each in packages if importlib.util.find_spec(each.replace("-", "_")) is None
    ]
    if missing:
        names = " ".join(missing)
        print(f"skipped {file}: missing {names}. Fix: pip install {names}", flush=True)
    return not missing


def write_whole(path: Path, text: str) -> None:
    """Write a file atomically: it gets its name only when all of it is on disk.

    Raises:
        OSError: If it cannot be written; nothing of it is left then.
    """
    # As in files.py, which is not on a device either.
    unfinished = path.with_name(f"{path.name}.partial")
    try:
        with unfinished.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def main() -> None:
    """Time the files, print one line for each, and write a JSON file."""
    given = arguments()
    try:
        times, results = measured(given)
        print_table(times, results)
        write_whole(given.output, json.dumps(results, indent=2) + "\n")
    except (WorkerError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    print(f"results written to {given.output}")


def print_table(files: Iterable[Path], results: Mapping[str, Any]) -> None:
    """Print a line for each file."""
    threads = results["hardware/threads"]
    print(f"{results['hardware/cpu']}, threads: {threads}; times in milliseconds, MB")
    print(" ".join(f"{heading:>9}" for heading in COLUMNS), " file")
    for file in files:
        for key, unit in COLUMNS.values():
            value = results[f"latency/{file}/{key}"]
            print("        -" if value is None else f"{value / unit:9.3f}", end=" ")
        print(f" {file}")


def measured(given: argparse.Namespace) -> tuple[list[Path], dict[str, Any]]:
    """Return the files that can be run, and the entries of the JSON file.

    Raises:
        WorkerError: If no file can be run.
    """
    script, generator = Path(__file__), np.random.default_rng(0)
    images = {
        file: generator.random((1, 3, *size_of(file, given.size)), dtype=np.float32)
        for file in given.files
    }
    runtimes = {file: SUFFIXES[file.suffix] for file in given.files}

    def footprint(file: Path) -> dict[str, Any]:
        return footprint_of(script, runtimes[file], given.threads, file, images[file])

    with pinned(given.threads) as cores:
        footprints = of_working(given.files, footprint, leave_out)
        with workers(script, (runtimes[file] for file in footprints), given.threads) as running:

            def opened(file: Path) -> Callable[[], float]:
                running[runtimes[file]].ask("open", file, images[file])
                return partial(time_once, running[runtimes[file]], file)

            runs = of_working(footprints, opened, leave_out)
            times = in_rounds(runs, leave_out, given.iterations, given.warmup)
    results = {**machine(given.threads, cores), "iterations": given.iterations}
    for file, each in times.items():
        for key, value in {**footprints[file], **summary(each)}.items():
            results[f"latency/{file}/{key}"] = value
    return list(times), results


def leave_out(file: Path, error: WorkerError) -> None:
    """Report a file that cannot be run."""
    print(f"left out {file}: {error}", flush=True)


def time_once(worker: Worker, file: Path) -> float:
    """Return the duration of one inference of an open file, in milliseconds."""
    (milliseconds,) = worker.ask("time", file, [0])
    return float(milliseconds)

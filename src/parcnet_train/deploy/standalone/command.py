"""The script that times exported files where this package is not installed: its command line.

`write_timer` joins this module with `timing.py`, and with what both import from this package. The
text must run with Python 3.9, NumPy and only one of the runtimes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parcnet_train.deploy.runtimes import PACKAGES, SUFFIXES
from parcnet_train.deploy.standalone.timing import (
    ITERATIONS,
    WARMUP,
    in_rounds,
    machine,
    opened,
    pinned,
    summary,
)
from parcnet_train.deploy.standalone.workers import WorkerError

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
    files = {}
    for file in given.files:
        images = generator.random((1, 3, *size_of(file, given.size)), dtype=np.float32)
        files[file] = (SUFFIXES[file.suffix], file, images)
    with pinned(given.threads) as cores, opened(script, files, given.threads, leave_out) as working:
        runs = {file: each.time_once for file, each in working.items()}
        times = in_rounds(runs, leave_out, given.iterations, given.warmup)
    results = {**machine(given.threads, cores), "iterations": given.iterations}
    for file, milliseconds in times.items():
        for key, value in {**working[file].footprint, **summary(milliseconds)}.items():
            results[f"latency/{file}/{key}"] = value
    return list(times), results


def leave_out(file: Path, error: WorkerError) -> None:
    """Report a file that cannot be run."""
    print(f"left out {file}: {error}", flush=True)

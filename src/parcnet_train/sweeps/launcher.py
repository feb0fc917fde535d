"""Launcher of a sweep: checks its jobs, runs them, and stops them at signals."""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from parcnet_train.config.overrides import quoted
from parcnet_train.errors import ConfigError, Fault
from parcnet_train.sweeps.queue import Job, Queue
from parcnet_train.sweeps.table import FAILED, Display, Row

log = logging.getLogger(__name__)

SAVING_SECONDS = 70.0  # time for the last checkpoint; a job gives its own processes 60
POLL_SECONDS = 0.2
STOPPING = (signal.SIGTERM, signal.SIGINT)


def run_jobs(jobs: Sequence[Job], at_once: int) -> list[Row]:
    """Run jobs in one process each, and show their progress.

    Jobs that an earlier start has finished are skipped, and interrupted ones resume. A failed job
    does not affect the others. At SIGTERM and SIGINT, all jobs write their last checkpoint.

    Args:
        jobs: Jobs of the sweep. Jobs with the same directory are equal and run once.
        at_once: Number of concurrent jobs.

    Returns:
        The final state of each job; `tell_failed` prints why jobs failed.

    Raises:
        ConfigError: If nothing can be started.
        SystemExit: With code 130 or 143 after a signal.
    """
    if not jobs:
        raise ConfigError("-m: this sweep has no jobs; expected KEY=VALUE,VALUE or sweep=NAME")
    if at_once < 1:
        raise ConfigError(f"hydra.launcher.n_jobs={at_once}: expected at least 1")
    different = each_once(jobs)
    refuse_hopeless(jobs)
    queue = Queue(different, min(at_once, len(different)))
    with heard() as received, Display(list(queue.rows.values())) as display:
        try:
            watch(queue, received, display)
        finally:
            queue.kill()
    if received:
        tell_failed(queue.rows.values())
        print("stopped; rerun the same command to resume", file=sys.stderr)
        sys.exit(128 + received[0])
    return [queue.rows[job.folder] for job in jobs]


def each_once(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs without duplicates.

    Raises:
        ConfigError: If different jobs have the same directory.
    """
    different: dict[Path, Job] = {}
    for job in jobs:
        first = different.setdefault(job.folder, job)
        if first is job:
            continue
        # Two trainings with the same hash may still resume from different checkpoints.
        one, other = ((it.identity, it.config.get("ckpt")) for it in (first, job))
        if one != other:
            raise ConfigError(
                f"hydra.sweep.subdir: {first.name} and {job.name} would both write to "
                f"{job.folder}; expected one directory per job. Fix: leave out "
                "hydra.sweep.subdir, or start a command with its own hydra.sweep.dir for each"
            )
        log.info("%s is the same job as %s", job.name, first.name)
    return list(different.values())


def refuse_hopeless(jobs: Sequence[Job]) -> None:
    """Refuse a sweep in which every job has a fault.

    Raises:
        ConfigError: If every job has a fault. Otherwise, faulty jobs fail when they run.
    """
    if any(job.look() == "finished" for job in jobs):
        return
    from parcnet_train.check.config import check  # the import takes seconds

    faults: list[Fault] = []
    for job in jobs:
        found = [*job.plain.faults, *check(job.config, job.plain.borrowed)]
        if not found:
            return
        faults += found
    raise ConfigError(list(dict.fromkeys(faults)))


def watch(queue: Queue, received: Sequence[int], display: Display) -> None:
    """Wait for all jobs; after a signal, wait until the running jobs have saved and ended."""
    while not received and (queue.running or queue.waiting):
        queue.step()
        display.update()
        time.sleep(POLL_SECONDS)
    if not received:
        return
    queue.stop()
    deadline = time.monotonic() + SAVING_SECONDS
    while queue.running and time.monotonic() < deadline and len(received) == 1:
        queue.step()
        display.update()
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def heard() -> Iterator[list[int]]:
    """Collect signals instead of handling them, while the context is active."""
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in STOPPING
    }
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def tell_failed(rows: Iterable[Row]) -> None:
    """Print each failed job with the last lines of its output."""
    for row in rows:
        if row.state == FAILED:
            print(f"error: {row.name} failed: {row.reason}", file=sys.stderr)


def compare(folders: Sequence[Path], output: Path) -> int:
    """Compare trainings with each other and with the paper: `action=compare`.

    Args:
        folders: Run directories of the trainings.
        output: Folder of the comparison, which is overwritten.

    Returns:
        Exit code of the command, which has printed why it failed.
    """
    runs = ",".join(quoted(str(folder)) for folder in folders)
    command = [sys.executable, "-m", "parcnet_train", "action=compare", f"report.runs=[{runs}]"]
    command.append(f"hydra.run.dir={quoted(str(output))}")
    return subprocess.run(command, check=False).returncode

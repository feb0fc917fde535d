"""Runs a sweep: refuses what cannot go well, watches its jobs, stops them when asked to."""

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
from parcnet_train.runs.directories import config_hash
from parcnet_train.sweeps.queue import Job, Queue
from parcnet_train.sweeps.table import FAILED, FINISHED, STOPPED, Display, Row

log = logging.getLogger(__name__)

SAVING_SECONDS = 70.0  # for the last checkpoint; a job gives the processes it has started 60
POLL_SECONDS = 0.2
STOPPING = (signal.SIGTERM, signal.SIGINT)


def run_jobs(jobs: Sequence[Job], at_once: int) -> list[Row]:
    """Runs jobs, each in a process of its own, and shows how far they are.

    What an earlier start has finished is skipped, what it has begun goes on. One that fails leaves
    the others alone. At SIGTERM and SIGINT all of them write their last checkpoint.

    Args:
        jobs: those of one directory are the same, and run once.
        at_once: how many at a time.

    Returns:
        How each of the jobs ended; `tell_failed` says why some failed.

    Raises:
        ConfigError: where nothing can be started.
        SystemExit: 130 or 143 after a signal.
    """
    if not jobs:
        raise ConfigError("-m: this sweep has no jobs; a sweep is KEY=VALUE,VALUE or sweep=NAME")
    if at_once < 1:
        raise ConfigError(f"hydra.launcher.n_jobs={at_once}: allowed is 1 or more")
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
        print("stopped; go on with the same command", file=sys.stderr)
        sys.exit(128 + received[0])
    return [queue.rows[job.folder] for job in jobs]


def each_once(jobs: Sequence[Job]) -> list[Job]:
    """The jobs without those that are the same as one before.

    Raises:
        ConfigError: where different ones have the same directory.
    """
    different: dict[Path, Job] = {}
    for job in jobs:
        first = different.setdefault(job.folder, job)
        if first is job:
            continue
        # Two trainings of one hash may still go on from two checkpoints.
        one, other = ((config_hash(it.config), it.config.get("ckpt")) for it in (first, job))
        if one != other:
            raise ConfigError(
                f"{first.name} and {job.name} would both write into {job.folder}; leave out "
                "hydra.sweep.subdir, or start a command for each, with a hydra.sweep.dir of its own"
            )
        log.info("%s is the same job as %s", job.name, first.name)
    return list(different.values())


def refuse_hopeless(jobs: Sequence[Job]) -> None:
    """Finds out at once what would end every job as soon as it starts.

    Raises:
        ConfigError: where none is without a fault; else those with one fail by themselves.
    """
    if any(job.look() == "finished" for job in jobs):
        return
    from parcnet_train.check.config import check  # seconds

    faults: list[Fault] = []
    for job in jobs:
        found = [*job.plain.faults, *check(job.config, job.plain.borrowed)]
        if not found:
            return
        faults += found
    raise ConfigError(list(dict.fromkeys(faults)))


def watch(queue: Queue, received: Sequence[int], display: Display) -> None:
    """Waits for all jobs, or after a signal for those that run to save and end."""
    while not received and (queue.running or queue.waiting):
        queue.step()
        display.update()
        time.sleep(POLL_SECONDS)
    if not received:
        return
    queue.waiting.clear()
    stopped = list(queue.running)
    queue.send(signal.SIGTERM)
    deadline = time.monotonic() + SAVING_SECONDS
    while queue.running and time.monotonic() < deadline and len(received) == 1:
        queue.step()
        display.update()
        time.sleep(POLL_SECONDS)
    for each in stopped:
        if each.row.state != FINISHED:
            each.row.state, each.row.reason = STOPPED, ""


@contextlib.contextmanager
def heard() -> Iterator[list[int]]:
    """The signals that come in meanwhile, in place of what they would do."""
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
    """Names what has failed, with the last lines that it printed."""
    for row in rows:
        if row.state == FAILED:
            print(f"error: {row.name} failed: {row.reason}", file=sys.stderr)


def compare(folders: Sequence[Path], output: Path) -> None:
    """Shows what trainings have found, beside the paper's numbers: `action=report`.

    Args:
        folders: of the trainings.
        output: the folder of the report, overwritten.
    """
    runs = ",".join(quoted(str(folder)) for folder in folders)
    command = [sys.executable, "-m", "parcnet_train", "action=report", f"report.runs=[{runs}]"]
    subprocess.run([*command, f"hydra.run.dir={quoted(str(output))}"], check=False)

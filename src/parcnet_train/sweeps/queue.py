"""The jobs of a sweep, each in a process of its own, as many at once as there is room for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parcnet_train.config.compose import PlainConfig
from parcnet_train.distributed.processes import SWEEP, own_cores
from parcnet_train.errors import UserError, reason_of
from parcnet_train.runs.directories import PROGRESS
from parcnet_train.runs.locks import Lock
from parcnet_train.sweeps import devices
from parcnet_train.sweeps.jobs import Found, look, take
from parcnet_train.sweeps.table import BEFORE, FAILED, FINISHED, GOING_ON, RUNNING, Row

OUTPUT = "output.log"  # what a job prints
LAST_LINES = 10  # of it, shown where the job fails
LAST_BYTES = 2**16  # that are read for them


@dataclass
class Job:
    """One job of a sweep.

    Attributes:
        name: its overrides that differ from those of other jobs.
        folder: its directory.
        plain: its configuration.
        command: runs it.
        resuming: the same from its last checkpoint.
    """

    name: str
    folder: Path
    plain: PlainConfig
    command: Sequence[str]
    resuming: Sequence[str]

    @property
    def config(self) -> dict[str, Any]:
        """Plain values."""
        return self.plain.values

    def look(self) -> Found:
        """What an earlier start has left of it."""
        return look(self.config, self.folder)


@dataclass
class Running:
    """The process of a job.

    Attributes:
        row: what is shown of the job.
        process: in a session of its own, so that Ctrl-C comes from here alone.
        lock: keeps other sweeps from the job until it is closed.
        gpus: its own.
        printed: bytes of its log that earlier starts have left.
    """

    row: Row
    process: subprocess.Popen[bytes]
    lock: Lock
    gpus: list[str]
    printed: int


class Queue:
    """The jobs of a sweep, from the first start to the last end.

    Args:
        jobs: in the order in which they start.
        at_once: how many may run at a time.

    Raises:
        ConfigError: where this machine has too few GPUs for so many.
    """

    def __init__(self, jobs: Sequence[Job], at_once: int) -> None:
        self.at_once = at_once
        self.free = devices.visible_gpus()
        count = len(self.free)
        self.gpus = {job.folder: devices.gpus_wanted(job.config, count, at_once) for job in jobs}
        devices.refuse_too_few(list(self.gpus.values()), count, at_once)
        self.rows = {job.folder: Row(job.name, job.folder) for job in jobs}
        self.waiting = deque(jobs)
        self.running: list[Running] = []

    def step(self) -> None:
        """Takes in what has ended, and starts what there is room for."""
        for each in [each for each in self.running if each.process.poll() is not None]:
            self._end(each)
        while self.waiting and len(self.running) < self.at_once:
            if self.gpus[self.waiting[0].folder] > len(self.free):
                return
            job = self.waiting.popleft()
            row = self.rows[job.folder]
            try:
                self._start(job, row)
            except UserError as error:
                row.state, row.reason = FAILED, str(error)
            except OSError as error:
                row.state, row.reason = FAILED, f"it cannot be started: {error}"

    def _start(self, job: Job, row: Row) -> None:
        if job.look() == "finished":
            row.state = BEFORE
            return
        with contextlib.ExitStack() as until_it_runs:
            lock = until_it_runs.enter_context(take(job.config, job.folder))
            found = job.look()  # another sweep may have finished it meanwhile
            if found == "finished":
                row.state = BEFORE
                return
            self._run(job, row, found == "interrupted", lock)
            until_it_runs.pop_all()

    def _run(self, job: Job, row: Row, goes_on: bool, lock: Lock) -> None:
        (job.folder / PROGRESS).unlink(missing_ok=True)
        wanted = self.gpus[job.folder]
        gpus = self.free[:wanted]
        environment = {
            **os.environ,
            **devices.environment_of(job.config, gpus, self.at_once, own_cores()),
            SWEEP: str(os.getpid()),
        }
        with (job.folder / OUTPUT).open("ab") as output:
            process = subprocess.Popen(
                job.resuming if goes_on else job.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.running.append(Running(row, process, lock, gpus, output.tell()))
        self.free = self.free[wanted:]
        row.state = GOING_ON if goes_on else RUNNING

    def _end(self, each: Running) -> None:
        self.running.remove(each)
        each.lock.close()
        self.free += each.gpus
        code = each.process.returncode
        each.row.state = FINISHED if code == 0 else FAILED
        if code:
            ending = f"exit code {code}" if code > 0 else signal.Signals(-code).name
            output = each.row.folder / OUTPUT
            lines = last_lines(output, each.printed)
            each.row.reason = "\n".join(
                [f"{ending}, the end of {output}:", *(f"  {it}" for it in lines)]
            )

    def send(self, number: int) -> None:
        """Sends a signal to all processes; they pass it on to those that they have started."""
        for each in self.running:
            each.process.send_signal(number)

    def kill(self) -> None:
        """Ends what is left, and what it has started."""
        for each in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(each.process.pid, signal.SIGKILL)
            each.process.wait()
            each.lock.close()


def last_lines(output: Path, printed: int) -> list[str]:
    """The last lines of a log, as far as they can be read.

    Args:
        output: the log, which somebody may have removed meanwhile.
        printed: bytes in it that earlier starts have left.
    """
    try:
        with output.open("rb") as file:
            file.seek(max(printed, output.stat().st_size - LAST_BYTES))
            return file.read().decode(errors="replace").splitlines()[-LAST_LINES:]
    except OSError as error:
        return [f"cannot be read: {reason_of(error)}"]

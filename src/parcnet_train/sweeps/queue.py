"""Queue of the jobs of a sweep, each in its own process, with a limit on concurrent jobs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parcnet_train.config.compose import PlainConfig
from parcnet_train.distributed.processes import SWEEP, own_cores
from parcnet_train.errors import UserError, reason_of
from parcnet_train.files import unwritable
from parcnet_train.runs.directories import PROGRESS, config_hash
from parcnet_train.runs.locks import Lock
from parcnet_train.sweeps import devices
from parcnet_train.sweeps.jobs import Found, look, take
from parcnet_train.sweeps.table import BEFORE, FAILED, FINISHED, GOING_ON, RUNNING, STOPPED, Row

OUTPUT = "output.log"  # printed output of a job
LAST_LINES = 10  # lines of the output that are shown if a job fails
BLOCK = 2**16  # bytes to write, more than the rest of a page
LAST_BYTES = 2**16  # bytes that are read for these lines


@dataclass
class Job:
    """One job of a sweep.

    Attributes:
        name: Overrides that differ from those of other jobs.
        folder: Directory of the job.
        plain: Composed configuration of the job.
        command: Command that runs the job.
        resuming: Command that resumes the job from its last checkpoint.
    """

    name: str
    folder: Path
    plain: PlainConfig
    command: Sequence[str]
    resuming: Sequence[str]

    @property
    def config(self) -> dict[str, Any]:
        """Configuration as plain values."""
        return self.plain.values

    @property
    def identity(self) -> str:
        """Hash of the configuration."""
        return config_hash(self.config)

    @property
    def accelerator(self) -> Any:
        """Value of `trainer.accelerator`; None if there is none."""
        return self.config.get("trainer", {}).get("accelerator")

    @property
    def devices(self) -> Any:
        """Value of `trainer.devices`; None if there is none."""
        return self.config.get("trainer", {}).get("devices")

    def look(self) -> Found:
        """Return the state of the job after earlier starts."""
        return look(self.config.get("action", ""), self.identity, self.folder)


@dataclass
class Running:
    """Running process of a job.

    Attributes:
        row: Displayed row of the job.
        process: Process in its own session, so that it gets Ctrl-C only from here.
        lock: Lock that keeps other sweeps away from the job.
        gpus: GPUs of the job.
        printed: Size of its log after earlier starts, in bytes.
    """

    row: Row
    process: subprocess.Popen[bytes]
    lock: Lock
    gpus: list[str]
    printed: int


class Queue:
    """Waiting and running jobs of a sweep.

    Args:
        jobs: Jobs in the order in which they start.
        at_once: Maximum number of concurrent jobs.

    Raises:
        ConfigError: If this machine has too few GPUs for that many jobs.
    """

    def __init__(self, jobs: Sequence[Job], at_once: int) -> None:
        self.at_once = at_once
        self.free = devices.visible_gpus()
        count = len(self.free)
        self.gpus = {
            job.folder: devices.gpus_wanted(job.accelerator, job.devices, count, at_once)
            for job in jobs
        }
        devices.refuse_too_few(list(self.gpus.values()), count, at_once)
        self.rows = {job.folder: Row(job.name, job.folder) for job in jobs}
        self.waiting = deque(jobs)
        self.running: list[Running] = []
        self.is_stopping = False  # jobs that fail from now on were stopped

    def step(self) -> None:
        """Handle processes that have ended, and start as many waiting jobs as possible."""
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
                row.state, row.reason = FAILED, f"the job cannot be started: {error}"

    def _start(self, job: Job, row: Row) -> None:
        if job.look() == "finished":
            row.state = BEFORE
            return
        with contextlib.ExitStack() as until_it_runs:
            lock = until_it_runs.enter_context(take(job.identity, job.folder))
            found = job.look()  # another sweep may have finished the job meanwhile
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
            **devices.environment_of(job.devices, gpus, self.at_once, own_cores()),
            SWEEP: str(os.getpid()),
        }
        with (job.folder / OUTPUT).open("ab") as output:
            before = output.tell()  # the job moves it as soon as it writes
            process = subprocess.Popen(
                job.resuming if goes_on else job.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.running.append(Running(row, process, lock, gpus, before))
        self.free = self.free[wanted:]
        row.state = GOING_ON if goes_on else RUNNING

    def _end(self, each: Running) -> None:
        self.running.remove(each)
        each.lock.close()
        self.free += each.gpus
        code = each.process.returncode
        if code == 0:
            each.row.state = FINISHED
        elif self.is_stopping:
            each.row.state = STOPPED
        else:
            each.row.state = FAILED
            ending = f"exit code {code}" if code > 0 else signal.Signals(-code).name
            output = each.row.folder / OUTPUT
            lines = last_lines(output, each.printed)
            if not any("error: " in line for line in lines):
                lines += unwritable_now(each.row.folder)
            each.row.reason = "\n".join(
                [f"{ending}; the last lines of {output}:", *(f"  {it}" for it in lines)]
            )

    def stop(self) -> None:
        """Send SIGTERM to all jobs, which forward it to their own processes; start no other job."""
        self.waiting.clear()
        self.is_stopping = True
        for each in self.running:
            each.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the remaining jobs and their processes."""
        for each in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(each.process.pid, signal.SIGKILL)
            each.row.state = STOPPED
            each.process.wait()
            each.lock.close()


def unwritable_now(folder: Path) -> list[str]:
    """Return why a folder cannot be written now; a job could not write that into its log either.

    Args:
        folder: Directory of a job.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(BLOCK))
    except OSError as error:
        return [f"error: {unwritable(folder, error)}"]
    return []


def last_lines(output: Path, printed: int) -> list[str]:
    """Return the last lines of a log, or the reason why it cannot be read.

    Args:
        output: Log file, which may have been removed meanwhile.
        printed: Size of the log after earlier starts, in bytes.
    """
    try:
        with output.open("rb") as file:
            file.seek(max(printed, output.stat().st_size - LAST_BYTES))
            return file.read().decode(errors="replace").splitlines()[-LAST_LINES:]
    except OSError as error:
        return [f"the log cannot be read: {reason_of(error)}"]

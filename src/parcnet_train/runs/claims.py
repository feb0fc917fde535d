"""Creation, recording and locking of run directories."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from parcnet_train.distributed.processes import SAVING, is_restarted, place
from parcnet_train.errors import (
    ConfigError,
    ProcessError,
    TrainingError,
    UserError,
    first_line,
    message_of,
)
from parcnet_train.files import to_json, write_whole
from parcnet_train.runs.directories import (
    LAST,
    LOCK,
    OUTCOME,
    RECORD,
    RESULTS,
    RunSpec,
    goes_on_from,
    is_again,
    is_run,
    new_names,
    read_values,
    resumed_run,
    runs_like,
    started_at,
)
from parcnet_train.runs.locks import HeldError, take_lock

SIGNALLED = 128  # shells add it to the number of the signal that ended a process
# Exit codes of a process that a user or a cluster has stopped.
STOPPED = [SIGNALLED + number for number in (signal.SIGINT, *SAVING)]


def claim(spec: RunSpec, overrides: Sequence[str], explicit: Path | None = None) -> Path:
    """Find or create the directory of a run that is about to start.

    A resumed training keeps its directory. A name that another command has taken is never reused;
    the next free name is created. A command that SLURM or torchrun restarts finds the directory of
    its earlier start.

    Args:
        spec: Values that name the run and its checkpoint.
        overrides: Overrides of the command line.
        explicit: Directory that the command line names; None: the directory is named here.

    Raises:
        CheckpointError: If there is no checkpoint to resume from, or the checkpoint of another
            training would be overwritten.
        ConfigError: If the directory contains results.
    """
    spec = replace(spec, overrides=overrides)
    if explicit is not None:
        refuse_overwriting(spec, explicit)
        return explicit
    names = (spec.task, spec.backbone, spec.data)
    named = runs_like(spec.runs, *names, spec.action)
    if resumed := resumed_run(spec.action, spec.ckpt, spec.runs, *names):
        return resumed
    candidates = new_names(named, spec.action)
    if place().is_shared:
        folder = next(candidates)
        refuse_overwriting(spec, folder)
        return folder
    if is_restarted():
        taken = itertools.takewhile(Path.is_dir, new_names(named, spec.action))
        if own := next((each for each in taken if is_own(each, overrides)), None):
            return own
    for folder in candidates:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    return folder


def is_own(folder: Path, overrides: Sequence[str]) -> bool:
    """Return whether a run directory was created for this command; unrecorded commands count."""
    made_for = read_values(folder / RECORD).get("overrides", list(overrides))
    return bool(made_for == list(overrides))


def refuse_overwriting(spec: RunSpec, folder: Path) -> None:
    """Refuse a directory that contains the output of another run.

    A report or a comparison may overwrite an earlier one.

    Args:
        spec: Values that name the run and its checkpoint.
        folder: Directory of the run.

    Raises:
        CheckpointError: If the directory contains a checkpoint that this training does not resume.
        ConfigError: If the directory contains results.
    """
    if is_restarted():
        return
    if spec.action == "fit":
        goes_on_from(spec, folder)
        is_resumed_by_name = spec.ckpt is None and is_again(folder, spec.overrides)
        if (folder / LAST).is_file() and not is_resumed_by_name:
            return
    if (folder / RESULTS).is_file() and spec.action not in ("report", "compare"):
        raise ConfigError(
            f"hydra.run.dir={folder}: it contains {RESULTS} of an earlier run; expected a "
            "directory without results. Fix: name another directory with hydra.run.dir=PATH, or "
            "start torchrun with a new --rdzv-id"
        )


@contextlib.contextmanager
def at_work(folder: Path, overrides: Sequence[str] = ()) -> Iterator[None]:
    """Lock a run directory against other commands; only the process of rank 0 does so.

    If an exception ends the work before it has results, `outcome.json` says how.

    Args:
        folder: Run directory, created if it does not exist.
        overrides: Overrides of the command line.

    Raises:
        TrainingError: If another process works in the directory, or it cannot be written.
    """
    if place().rank > 0:
        yield
        return
    try:
        lock = take_lock(folder / LOCK)
    except HeldError as error:
        raise TrainingError(
            f"{folder}: another process works in this directory: {error}. Fix: wait until it has "
            "finished, stop it, or start a new run without ckpt in another directory"
        ) from error
    with lock:
        begin(folder, overrides)
        (folder / OUTCOME).unlink(missing_ok=True)
        try:
            yield
        except BaseException as error:
            note_outcome(folder, error)
            raise


@contextlib.contextmanager
def failure_noted(folder: Path) -> Iterator[None]:
    """Note why the work of one of several processes fails, which their launcher does not know.

    A process that was stopped notes nothing, since the failure of another one may be the reason.
    Neither does an unexpected exception of another process than the first: it may only mean that
    the first one is gone.

    Args:
        folder: Run directory, which exists.
    """
    try:
        yield
    except Exception as error:
        if place().rank == 0 or isinstance(error, UserError):
            note_outcome(folder, error)
        raise


def note_outcome(folder: Path, error: BaseException) -> None:
    """Write `outcome.json`, unless the run has results, or one of its processes has written it.

    A process that was ended by a signal could not write it, so the others only know that it is
    gone.

    Args:
        folder: Run directory.
        error: The exception that ended the work.
    """
    is_signal = isinstance(error, ProcessError) and error.code > SIGNALLED
    if (folder / RESULTS).is_file() or ((folder / OUTCOME).is_file() and not is_signal):
        return
    with contextlib.suppress(TrainingError):  # a full disk may be what ended the work
        write_whole(folder / OUTCOME, to_json(outcome_of(error), indent=2))


def outcome_of(error: BaseException) -> dict[str, str]:
    """Return how a run ended.

    Args:
        error: The exception that ended it.

    Returns:
        `outcome`: `stopped`, by a signal, or `failed`; then also `reason`, the first line of the
        message.
    """
    code = getattr(error, "code", None) if isinstance(error, SystemExit | ProcessError) else None
    if isinstance(error, KeyboardInterrupt) or code in STOPPED:
        return {"outcome": "stopped"}
    if isinstance(error, UserError):
        reason = first_line(message_of(error))
    else:
        reason = f"{type(error).__name__}: {first_line(error)}"
    return {"outcome": "failed", "reason": reason}


def begin(folder: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Record the start of a run, unless it has started before; a moved run keeps its record.

    A copy of a run becomes a separate run if the original still exists.

    Args:
        folder: Run directory.
        overrides: Overrides of the command line.

    Returns:
        The record: `started`, a date and time; `id`, eight hexadecimal digits; `directory`;
        `overrides`; `run_name`, see `Place`.
    """
    here = folder.resolve()
    record = read_values(folder / RECORD)
    if not all(isinstance(record.get(key), str) for key in ("id", "directory")):
        record = {}  # missing, or not written by a run
    if record.get("directory") == str(here):
        return record
    started = datetime.now().astimezone()
    if is_run(folder) and not (record and is_copy(folder, record)):
        started = datetime.fromtimestamp(started_at(folder)).astimezone()
    else:
        record = {}
    record = {
        "started": started.isoformat(timespec="microseconds"),
        "id": uuid.uuid4().hex[:8],
        "overrides": list(overrides),
        "run_name": place().run_name,
        **record,
        "directory": str(here),
    }
    write_whole(folder / RECORD, f"{json.dumps(record, indent=2)}\n".encode())
    return record


def is_copy(folder: Path, record: Mapping[str, Any]) -> bool:
    """Return whether the recorded run still exists in its first directory, which is another one.

    Args:
        folder: Run directory.
        record: Its record, with `id` and `directory`.
    """
    first = Path(record["directory"])
    is_there = read_values(first / RECORD).get("id") == record["id"]
    return is_there and not first.samefile(folder)

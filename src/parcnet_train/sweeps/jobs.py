"""One job of a sweep: what an earlier start has left of it, and who works on it.

The same for every launcher of Hydra. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TextIO

from parcnet_train.errors import TrainingError, reason_of
from parcnet_train.processes import place
from parcnet_train.runs import LAST, RESULTS, config_hash, read_values

log = logging.getLogger(__name__)

LOCK = "job.lock"  # held while a process works on the job; holds the hash of its configuration

Found = Literal["finished", "interrupted", "new"]


def look(config: Mapping[str, Any], folder: Path) -> Found:
    """What an earlier start has left of a job.

    Only a training is finished for good: what an evaluation reads may be another file by now.

    Args:
        config: of the job, plain values.
        folder: its directory.

    Returns:
        `finished`: its results are there; `interrupted`: it goes on from its last checkpoint;
        `new`: it begins.
    """
    if config.get("action") != "fit":
        return "new"
    identity, results = config_hash(config), read_values(folder / RESULTS)
    if results.get("status") == "done" and results.get("config_hash") == identity:
        return "finished"
    is_own = (folder / LOCK).is_file() and (folder / LOCK).read_text().strip() == identity
    return "interrupted" if is_own and (folder / LAST).is_file() else "new"


def take(config: Mapping[str, Any], folder: Path) -> TextIO:
    """Keeps a job from other sweeps, until the file that is returned is closed.

    A killed process gives it back, too.

    Args:
        config: of the job, plain values.
        folder: its directory, made where there is none.

    Raises:
        TrainingError: where another process has it, another run is in it, or nothing can be
            written.
    """
    with contextlib.ExitStack() as until_it_is_ours:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = until_it_is_ours.enter_context((folder / LOCK).open("a+"))
            lock(file)
            sign(file, config_hash(config), folder)
        except BlockingIOError as error:
            raise TrainingError(
                f"{folder}: another sweep is at work on this job; start the same command again "
                "when that one has ended"
            ) from error
        except OSError as error:
            raise TrainingError(
                f"{folder} cannot be written: {reason_of(error)}; make room, or write elsewhere: "
                "paths.runs=PATH"
            ) from error
        until_it_is_ours.pop_all()
    return file


def sign(file: TextIO, identity: str, folder: Path) -> None:
    """Writes whose directory this is, so that a later start knows whose checkpoint is in it.

    Args:
        file: of the lock, which is held.
        identity: hash of the job's configuration.
        folder: its directory.

    Raises:
        TrainingError: where something else has been run in it.
    """
    file.seek(0)
    if file.read().strip() == identity:
        return
    if any((folder / name).is_file() for name in (LAST, RESULTS)):
        raise TrainingError(
            f"{folder} holds another run, which this job would overwrite; move it away, or name "
            "another directory: hydra.sweep.dir=PATH"
        )
    file.truncate(0)
    file.write(identity + "\n")
    file.flush()


def lock(file: TextIO) -> None:
    """Locks a file.

    Raises:
        BlockingIOError: where another process has.
    """
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:  # file systems of some clusters have no locks
        log.warning("%s cannot be locked: %s; start no second sweep here", file.name, error)


def metric_of(folder: Path) -> float | None:
    """The metric that chose the best epoch, as a run's results have it; None without any."""
    results = read_values(folder / RESULTS)
    return results.get(results.get("monitor", ""))


def run_once(config: dict[str, Any], act: Callable[[dict[str, Any]], None]) -> float | None:
    """A job of Hydra's own launchers, in this process: done unless an earlier start has done it.

    Args:
        config: of the job, plain values.
        act: does what they say.

    Returns:
        Its metric.
    """
    folder = Path(config["paths"]["output"])
    if look(config, folder) == "finished":
        log.info("finished before: %s", folder)
        return metric_of(folder)
    is_first = place().rank == 0
    with take(config, folder) if is_first else contextlib.nullcontext():
        if look(config, folder) == "interrupted":
            config["ckpt"] = str(folder)
        act(config)
    return metric_of(folder)

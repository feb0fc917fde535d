"""One job of a sweep: what an earlier start has left of it, and who works on it.

The same for every launcher of Hydra. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from parcnet_train.distributed.processes import place
from parcnet_train.errors import TrainingError
from parcnet_train.runs.claims import at_work
from parcnet_train.runs.directories import LAST, RESULTS, config_hash, read_values
from parcnet_train.runs.locks import HeldError, Lock, read_lock, take_lock

log = logging.getLogger(__name__)

LOCK = "job.lock"  # held while a process works on the job; its note is the configuration's hash

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
    is_own = read_lock(folder / LOCK)[0] == identity
    return "interrupted" if is_own and (folder / LAST).is_file() else "new"


def take(config: Mapping[str, Any], folder: Path) -> Lock:
    """Keeps a job from other sweeps, until the lock is closed; a killed process gives it back, too.

    Args:
        config: of the job, plain values.
        folder: its directory, made where there is none.

    Raises:
        TrainingError: where another process has it, another run is in it, or nothing can be
            written.
    """
    try:
        lock = take_lock(folder / LOCK)
    except HeldError as error:
        raise TrainingError(
            f"{folder}: another sweep is at work on this job ({error}); start the same command "
            "again when that one has ended"
        ) from error
    identity = config_hash(config)
    if lock.note != identity:
        if any((folder / name).is_file() for name in (LAST, RESULTS)):
            lock.close()
            raise TrainingError(
                f"{folder} holds another run, which this job would overwrite; move it away, or "
                "name another directory: hydra.sweep.dir=PATH"
            )
        lock.sign(identity)
    return lock


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
    with take(config, folder) if is_first else contextlib.nullcontext(), at_work(folder):
        if look(config, folder) == "interrupted":
            config["ckpt"] = str(folder)
        act(config)
    return metric_of(folder)

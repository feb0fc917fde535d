"""One job of a sweep: its state after earlier starts, and its lock.

Every launcher of Hydra uses this module, which does not import PyTorch.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from parcnet_train.distributed.processes import place
from parcnet_train.errors import TrainingError
from parcnet_train.files import is_number
from parcnet_train.runs.claims import at_work
from parcnet_train.runs.directories import LAST, RESULTS, config_hash, read_values
from parcnet_train.runs.locks import HeldError, Lock, read_lock, take_lock

log = logging.getLogger(__name__)

LOCK = "job.lock"  # held while a process runs the job; its note is the configuration's hash

Found = Literal["finished", "interrupted", "new"]


def look(action: str, identity: str, folder: Path) -> Found:
    """Return the state of a job after earlier starts.

    Only trainings count as finished: the checkpoint of an evaluation may have changed since.

    Args:
        action: Name of the action of the job.
        identity: Hash of the configuration of the job.
        folder: Directory of the job.

    Returns:
        `finished`: its results exist; `interrupted`: it can resume from its last checkpoint;
        `new`: it starts from the beginning.
    """
    if action != "fit":
        return "new"
    results = read_values(folder / RESULTS)
    if results.get("status") == "done" and results.get("config_hash") == identity:
        return "finished"
    is_own = read_lock(folder / LOCK)[0] == identity
    return "interrupted" if is_own and (folder / LAST).is_file() else "new"


def take(identity: str, folder: Path) -> Lock:
    """Lock a job against other sweeps; the lock of a killed process is released.

    Args:
        identity: Hash of the configuration of the job.
        folder: Directory of the job, created if it does not exist.

    Raises:
        TrainingError: If another process runs the job, the directory contains another run, or it
            cannot be written.
    """
    try:
        lock = take_lock(folder / LOCK)
    except HeldError as error:
        raise TrainingError(
            f"{folder}: this job is already running in another sweep ({error}). Fix: rerun the "
            "command when it has finished"
        ) from error
    if lock.note != identity:
        if any((folder / name).is_file() for name in (LAST, RESULTS)):
            lock.close()
            raise TrainingError(
                f"hydra.sweep.dir: {folder} contains another run, which this job would overwrite. "
                "Fix: move that run away, or name another directory with hydra.sweep.dir=PATH"
            )
        lock.sign(identity)
    return lock


def metric_of(folder: Path) -> float | None:
    """Return the monitored metric in the results of a run, None without results."""
    results = read_values(folder / RESULTS)
    value = results.get(str(results.get("monitor")))
    return value if is_number(value) else None


def run_once(config: dict[str, Any], act: Callable[[dict[str, Any]], Any]) -> float | None:
    """Run a job of Hydra's own launchers in this process, unless an earlier start has finished it.

    Args:
        config: Configuration of the job, as plain values.
        act: Function that runs the configuration.

    Returns:
        The monitored metric of the job.
    """
    action, identity = config["action"], config_hash(config)
    folder = Path(config["paths"]["output"])
    if look(action, identity, folder) == "finished":
        log.info("%s: this job is already finished", folder)
        return metric_of(folder)
    is_first = place().rank == 0
    with take(identity, folder) if is_first else contextlib.nullcontext(), at_work(folder):
        if look(action, identity, folder) == "interrupted":
            config["ckpt"] = str(folder)
        act(config)
    return metric_of(folder)

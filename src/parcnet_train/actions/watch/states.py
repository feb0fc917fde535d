"""State of the runs below some folders, read from the files that the runs write.

A run may write or remove any of these files at any moment, so every value may be missing.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parcnet_train.errors import printable
from parcnet_train.files import is_number
from parcnet_train.runs.actions import MEASURED
from parcnet_train.runs.directories import (
    LOCK,
    OUTCOME,
    PROGRESS,
    RECORD,
    RESULTS,
    is_run,
    read_values,
    started_at,
)
from parcnet_train.runs.locks import is_held
from parcnet_train.visualize.curves import read_rows

RUNNING, FINISHED, FAILED, STOPPED = "running", "finished", "failed", "stopped"
ORDER = (RUNNING, FAILED, STOPPED, FINISHED)
SILENT_SECONDS = 600.0  # a running training that writes nothing for longer is called silent
NO_REASON = "its process ended without results, such as one that was killed"


@dataclass(frozen=True)
class RunState:
    """What the files of a run say; None and empty values are unknown.

    Attributes:
        folder: Run directory.
        action: Action of the run, one of those with a metric.
        state: One of `ORDER`.
        started: Start time in seconds since 1970.
        reason: Why the run failed.
        silent: Seconds since a running training has written its progress, if that is long ago.
        epoch: Number of finished epochs, with a fraction.
        epochs: Number of all epochs.
        metric: Name of the monitored metric.
        value: Newest value of the metric.
        best: Best value of the metric.
        pace: Images per second.
        seconds_left: Estimated seconds until the end of the run.
        values: Values of the metric in all evaluations so far.
    """

    folder: Path
    action: str
    state: str
    started: float
    reason: str = ""
    silent: float | None = None
    epoch: float | None = None
    epochs: float | None = None
    metric: str = ""
    value: float | None = None
    best: float | None = None
    pace: float | None = None
    seconds_left: float | None = None
    values: Sequence[float] = ()


@dataclass
class Watcher:
    """Reader of the runs below some folders, which caches unchanged logs.

    Args:
        folders: Folders to search; links in them are not followed.
        clock: Function that returns the seconds since 1970.
    """

    folders: Sequence[Path]
    clock: Callable[[], float] = time.time
    logged: dict[Path, tuple[object, list[float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folders = [folder.resolve() for folder in self.folders]

    @property
    def top(self) -> Path:
        """The deepest folder that contains all folders."""
        return Path(os.path.commonpath(self.folders))

    def read(self) -> list[RunState]:
        """Return the state of every training and evaluation, running ones first, then by start."""
        found = {run for folder in self.folders for run in run_directories(folder)}
        states = [state for run in found if (state := self.state_of(run)) is not None]
        return sorted(states, key=lambda run: (ORDER.index(run.state), -run.started, run.folder))

    def read_one(self, run: Path) -> RunState | None:
        """Return the state of one run; None if `read` does not return it, wherever the path leads.

        Args:
            run: Path that may be anything.
        """
        lineage = [run, *run.parents]
        folders = [lineage[1 : lineage.index(each) + 1] for each in self.folders if each in lineage]
        try:
            is_found = (
                run.resolve() == run  # without links and `..`
                and is_run(run)
                and any(not any(map(is_run, between)) for between in folders)
            )
        except (OSError, ValueError):  # a name that no file can have
            return None
        return self.state_of(run) if is_found else None

    def state_of(self, run: Path) -> RunState | None:
        """Return the state of a run; None if its action has no metric, or it is gone."""
        # The lock comes first: a run writes its results before it releases its lock.
        is_running = is_held(run / LOCK)
        results, progress = read_values(run / RESULTS), read_values(run / PROGRESS)
        action = action_in(results, read_values(run / RECORD))
        if action not in MEASURED:
            return None
        try:
            started = started_at(run)
        except OSError:
            return None
        metric = progress.get("metric") or results.get("monitor")
        metric = metric if isinstance(metric, str) else ""
        state, reason = RUNNING, ""
        if not is_running:
            state, reason = ending_of(results, read_values(run / OUTCOME))
        is_live = state == RUNNING
        final = number(results.get(metric))
        return RunState(
            run,
            action,
            state,
            started,
            reason,
            silent=self.silence(run / PROGRESS) if is_live else None,
            epoch=first_number(progress.get("epoch"), results.get("epochs")),
            epochs=first_number(progress.get("epochs"), results.get("epochs")),
            metric=printable(metric),
            value=first_number(progress.get("value"), final),
            best=number(progress.get("best")) if final is None or is_live else final,
            pace=number(
                progress.get("images_per_second")
                if is_live
                else results.get("train/images_per_second")
            ),
            seconds_left=number(progress.get("seconds_left")) if is_live else None,
            values=self.values_of(run, metric),
        )

    def silence(self, file: Path) -> float | None:
        """Return the seconds since a file was written; None if that was lately."""
        try:
            seconds = self.clock() - file.stat().st_mtime
        except OSError:
            return None
        return seconds if seconds > SILENT_SECONDS else None

    def values_of(self, run: Path, metric: str) -> Sequence[float]:
        """Return the finite logged values of a metric; without any, those of an earlier call."""
        stamp, values = self.logged.get(run, (None, []))
        try:
            files = sorted((run / "csv").glob("version_*/metrics.csv"))
            stats = [file.stat() for file in files]
            now = [metric, files, [(each.st_mtime_ns, each.st_size) for each in stats]]
            if now != stamp:
                logged = (float(row[metric]) for row in read_rows(run / "csv") if row.get(metric))
                # A log that is about to be written anew is empty, or ends after its header.
                values = [value for value in logged if math.isfinite(value)] or values
                self.logged[run] = now, values
        except (OSError, ValueError, TypeError, KeyError, csv.Error):  # the file is half-written
            pass
        return values


def run_directories(folder: Path) -> Iterator[Path]:
    """Yield the run directories below a folder, without following links or entering runs."""
    for path, names, _ in os.walk(folder):
        if is_run(Path(path)):
            names.clear()
            yield Path(path)


def action_in(results: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Return the action of a run: that of its results, or else that of its command."""
    if isinstance(results.get("action"), str):
        return str(results["action"])
    typed = record.get("overrides")
    for override in reversed(typed if isinstance(typed, list) else []):
        key, _, value = str(override).lstrip("+").partition("=")
        if key == "action":
            return value
    return "fit"


def ending_of(results: Mapping[str, Any], outcome: Mapping[str, Any]) -> tuple[str, str]:
    """Return the state of a run that no process works on, and why it failed."""
    if results.get("status") == "done":
        return FINISHED, ""
    if outcome.get("outcome") == STOPPED:
        return STOPPED, ""
    return FAILED, printable(str(outcome.get("reason") or NO_REASON))


def number(value: Any) -> float | None:
    """Return a value of a JSON file as a number; None if it is something else."""
    return float(value) if is_number(value) else None


def first_number(*values: Any) -> float | None:
    """Return the first value that is a number; None if there is none."""
    return next((float(value) for value in values if is_number(value)), None)

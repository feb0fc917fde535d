"""Finished runs below a folder, read from their results.json and provenance.json."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from parcnet_train.errors import ConfigError, Fault, shortened
from parcnet_train.files import is_number
from parcnet_train.report.paper.tables import TABLE_2, TASKS, Row
from parcnet_train.runs.actions import MEASURED
from parcnet_train.runs.directories import LAST, PROVENANCE, RESULTS

TOLD = ("task", "backbone", "data", "seed", "parameters", "monitor")  # required in their results
ABLATION = re.compile(r"table2_row(\d+)")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        name: Path of the run directory, relative to the searched folder.
        folder: Run directory.
        results: Content of results.json.
        provenance: Content of provenance.json, None if it is missing or unreadable.
        ended: End time in seconds since 1970. Of runs with the same row and seed, only the newest
            is used.
    """

    name: str
    folder: Path
    results: Mapping[str, Any] = field(repr=False)
    provenance: Mapping[str, Any] | None = field(repr=False)
    ended: float

    @property
    def seed(self) -> int:
        """Seed of all random generators of the run."""
        return int(self.results["seed"])

    @property
    def metric(self) -> float:
        """Value of the monitored metric, in percent."""
        return 100 * float(self.results[self.results["monitor"]])

    @property
    def config_hash(self) -> str | None:
        """Hash of the configuration, None if it is unknown."""
        return self.results.get("config_hash") or (self.provenance or {}).get("config_hash")

    @property
    def row(self) -> Row | None:
        """Row of Table 2 that this run trained, None if it trained something else."""
        results = self.results
        named = ABLATION.fullmatch(str(results.get("ablation")))
        if named is None or results["action"] != "fit":
            return None
        row = next((row for row in TABLE_2 if row.number == int(named[1])), None)
        is_that = row is not None and (row.metric_name, backbone_of(row)) == (
            results["monitor"],
            results["backbone"],
        )
        return row if is_that else None


@dataclass(frozen=True)
class Collected:
    """Runs that were found below a folder.

    Attributes:
        runs: Finished runs that have a metric.
        left_out: One message for each run that cannot be reported.
    """

    runs: list[Run]
    left_out: list[str]


def backbone_of(row: Row) -> str:
    """Return the backbone config of a row of Table 2."""
    return "mobilevit_s" if row.model == "MobileViT-S" else "parcnet_s"


def task_of(row: Row) -> str:
    """Return the task of a row of Table 2."""
    return next(task for task, (metric, *_) in TASKS.items() if metric == row.metric_name)


def collect(folders: Sequence[Path]) -> Collected:
    """Read every finished run below some folders.

    Runs of actions that neither train nor evaluate are skipped.

    Args:
        folders: Folders to search. Names of runs are relative to the deepest common folder.

    Raises:
        ConfigError: If there is no finished run.
    """
    whole = [folder.resolve() for folder in folders]
    top = Path(os.path.commonpath(whole))
    runs: list[Run] = []
    left_out = list(dict.fromkeys(it for folder in whole for it in unfinished(folder, top)))
    found = {path for folder in whole for path in folder.rglob(RESULTS)}
    for path in sorted(found):
        name = path.parent.relative_to(top).as_posix()
        try:
            results = read_results(path)
        except ValueError as error:
            left_out.append(f"{name}: {error}")
            continue
        if results["action"] in MEASURED:
            provenance = read_provenance(path.parent / PROVENANCE)
            ended = ended_at(path, provenance)
            runs.append(Run(name, path.parent, results, provenance, ended))
    if not runs:
        head = (
            f"report.runs={shown(folders)}: there is no finished training; expected a folder with "
            "run directories. Fix: set report.runs to paths.runs, or to the folder of a sweep"
        )
        raise ConfigError([Fault("report.runs", line) for line in (head, *left_out)])
    return Collected(runs, left_out)


def folders_of(value: str | list[str]) -> list[Path]:
    """Return the folders of `report.runs`, which names one or several."""
    return [Path(each).expanduser() for each in ([value] if isinstance(value, str) else value)]


def shown(folders: Sequence[Path]) -> str:
    """Return the name of the first folder and the number of the others, as text."""
    return f"{folders[0]}" + (f" and {len(folders) - 1} more" if len(folders) > 1 else "")


def unfinished(folder: Path, top: Path) -> Iterable[str]:
    """Yield one message per training without results; its name is relative to `top`."""
    folders = {path.parent.parent for path in folder.rglob(str(LAST))}
    folders |= {path.parent for path in folder.rglob(PROVENANCE)}
    for each in sorted(folders):
        if not (each / RESULTS).is_file():
            yield f"{each.relative_to(top).as_posix()}: it has not finished: {RESULTS} is missing"


def read_results(path: Path) -> dict[str, Any]:
    """Read one results.json.

    Raises:
        ValueError: If the file is invalid, or the run is unfinished or has no metric; the message
            gives the reason.
    """
    results = read_json(path)
    if results is None:
        raise ValueError(f"{RESULTS} is not valid JSON")
    if not isinstance(results.get("action"), str):
        raise ValueError(f"{RESULTS} has no `action`")
    if (status := results.get("status")) != "done":
        raise ValueError(f"its status is {shortened(repr(status))}, not 'done'")
    if results["action"] not in MEASURED:
        return results
    if missing := [key for key in TOLD if results.get(key) is None]:
        raise ValueError(f"{RESULTS} has no {', '.join(f'`{key}`' for key in missing)}")
    for key in ("task", "backbone", "data", "monitor"):
        if not isinstance(results[key], str):
            raise ValueError(f"`{key}` is {shortened(repr(results[key]))}, not a text")
    for key in ("seed", "parameters"):
        if not is_number(results[key]):
            raise ValueError(f"`{key}` is {shortened(repr(results[key]))}, not a number")
    if not is_number(results.get(results["monitor"])):
        raise ValueError(f"it has no metric: `{results['monitor']}` is not a number")
    return results


def read_provenance(path: Path) -> dict[str, Any] | None:
    """Read one provenance.json; return None if it is missing or unreadable."""
    provenance = read_json(path) if path.is_file() else None
    is_whole = provenance is not None and isinstance(provenance.get("config"), dict)
    return provenance if is_whole else None


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; return None if the file contains none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def ended_at(path: Path, provenance: Mapping[str, Any] | None) -> float:
    """Return the end time of a run in seconds: as recorded, else when its results were written."""
    try:
        return datetime.fromisoformat((provenance or {})["sessions"][-1]["ended"]).timestamp()
    except (KeyError, IndexError, TypeError, ValueError):
        return path.stat().st_mtime


def newest_of_seeds(runs: Iterable[Run], what: str) -> tuple[list[Run], list[str]]:
    """Select the newest run of each seed.

    Args:
        runs: Runs of one row or of one configuration.
        what: Name of the row or configuration, for the messages.

    Returns:
        The runs in the order of their seeds, and one message for every seed with several runs.
    """
    by_seed: dict[int, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.seed, -run.ended, run.name)):
        by_seed.setdefault(run.seed, []).append(run)
    lines = []
    for seed, (newest, *older) in by_seed.items():
        if older:
            hashes = {run.config_hash for run in (newest, *older)}
            same = " of different configurations" if len(hashes) > 1 else " of one configuration"
            lines.append(
                f"{what}, seed {seed}: {1 + len(older)} runs{'' if None in hashes else same}; only "
                f"the newest, {newest.name}, is used, not {', '.join(run.name for run in older)}"
            )
    return [newest for newest, *_ in by_seed.values()], lines

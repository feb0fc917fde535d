"""The finished runs below a folder, from what they leave: results.json and provenance.json."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from parcnet_train.errors import ConfigError
from parcnet_train.report.paper.tables import TABLE_2, TASKS, Row
from parcnet_train.runs.directories import LAST, PROVENANCE, RESULTS

MEASURED = ("fit", "test", "average")  # actions that leave a metric of a network
TOLD = ("task", "backbone", "data", "seed", "parameters", "monitor")  # of each of them
ABLATION = re.compile(r"table2_row(\d+)")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        name: its folder, below the one that was looked at.
        folder: where it lies.
        results: its results.json.
        provenance: its provenance.json, None where there is none that can be read.
        ended: when, in seconds; of runs of one row and seed, the newest counts.
    """

    name: str
    folder: Path
    results: Mapping[str, Any] = field(repr=False)
    provenance: Mapping[str, Any] | None = field(repr=False)
    ended: float

    @property
    def seed(self) -> int:
        """That every generator was seeded with."""
        return int(self.results["seed"])

    @property
    def metric(self) -> float:
        """The monitored one, in percent."""
        return 100 * float(self.results[self.results["monitor"]])

    @property
    def config_hash(self) -> str | None:
        """Equal of two runs of one configuration; None where it is not known."""
        return self.results.get("config_hash") or (self.provenance or {}).get("config_hash")

    @property
    def row(self) -> Row | None:
        """The row of Table 2 that was trained, None where it was something else."""
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
    """What lies below a folder.

    Attributes:
        runs: that have a metric.
        left_out: one line for each that has none.
    """

    runs: list[Run]
    left_out: list[str]


def backbone_of(row: Row) -> str:
    """The config of the network that a row of Table 2 is about."""
    return "mobilevit_s" if row.model == "MobileViT-S" else "parcnet_s"


def task_of(row: Row) -> str:
    """The task of a row of Table 2."""
    return next(task for task, (metric, *_) in TASKS.items() if metric == row.metric_name)


def collect(folders: Sequence[Path]) -> Collected:
    """Reads every run below some folders; actions that train and evaluate nothing leave no runs.

    Args:
        folders: of several, names begin where their paths part.

    Raises:
        ConfigError: where there is none that has ended.
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
            f"report.runs={shown(folders)}: no finished training below it; name a folder that "
            "holds run directories, such as paths.runs or one of a sweep"
        )
        raise ConfigError([head, *left_out])
    return Collected(runs, left_out)


def shown(folders: Sequence[Path]) -> str:
    """Folders as `report.runs` has them, the first one for all."""
    return f"{folders[0]}" + (f" and {len(folders) - 1} more" if len(folders) > 1 else "")


def unfinished(folder: Path, top: Path) -> Iterable[str]:
    """One line per training below a folder that has left no results, named from the top."""
    folders = {path.parent.parent for path in folder.rglob(str(LAST))}
    folders |= {path.parent for path in folder.rglob(PROVENANCE)}
    for each in sorted(folders):
        if not (each / RESULTS).is_file():
            yield f"{each.relative_to(top).as_posix()}: has not ended, there is no {RESULTS}"


def read_results(path: Path) -> dict[str, Any]:
    """Reads one results.json.

    Raises:
        ValueError: where it is not one, the run has not ended, or has no metric; says why.
    """
    results = read_json(path)
    if results is None:
        raise ValueError(f"{RESULTS} is not JSON")
    if not isinstance(results.get("action"), str):
        raise ValueError(f"{RESULTS} has no `action`")
    if (status := results.get("status")) != "done":
        raise ValueError(f"its status is {status!r}, not 'done'")
    if results["action"] not in MEASURED:
        return results
    if missing := [key for key in TOLD if results.get(key) is None]:
        raise ValueError(f"{RESULTS} has no {', '.join(f'`{key}`' for key in missing)}")
    for key in ("seed", "parameters"):
        if not is_number(results[key]):
            raise ValueError(f"`{key}` is {results[key]!r}, not a number")
    if not is_number(results.get(results["monitor"])):
        raise ValueError(f"has no metric: `{results['monitor']}` is not a number")
    return results


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_provenance(path: Path) -> dict[str, Any] | None:
    """Reads a provenance.json; None where there is none that can be read."""
    provenance = read_json(path) if path.is_file() else None
    is_whole = provenance is not None and isinstance(provenance.get("config"), dict)
    return provenance if is_whole else None


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, None where a file holds none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def ended_at(path: Path, provenance: Mapping[str, Any] | None) -> float:
    """When a run ended, in seconds: as it says itself, else when it wrote its results."""
    try:
        return datetime.fromisoformat((provenance or {})["sessions"][-1]["ended"]).timestamp()
    except (KeyError, IndexError, TypeError, ValueError):
        return path.stat().st_mtime


def newest_of_seeds(runs: Iterable[Run], what: str) -> tuple[list[Run], list[str]]:
    """One run of each seed, the newest.

    Args:
        runs: of one row, or of one configuration.
        what: they are, for the lines.

    Returns:
        The runs by seed, and a line for every seed with several.
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
                f"{what}, seed {seed}: {1 + len(older)} runs{'' if None in hashes else same}; the "
                f"newest counts, {newest.name}, and not {', '.join(run.name for run in older)}"
            )
    return [newest for newest, *_ in by_seed.values()], lines

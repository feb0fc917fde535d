"""Learning curves of one run, read from its CSV logs."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

Series = tuple[list[int], list[float]]


def read_rows(folder: Path) -> list[dict[str, str]]:
    """Read all rows that a run has logged.

    A resumed run writes a new folder `version_N`; from its first step on, its rows replace the
    older ones.

    Args:
        folder: Folder that contains `version_N/metrics.csv`.
    """
    logged: list[dict[str, str]] = []
    files = sorted(folder.glob("version_*/metrics.csv"), key=lambda f: int(f.parent.name[8:]))
    for file in files:
        text = file.read_text("utf-8")
        whole = text[: text.rfind("\n") + 1]  # a full disk may have cut the last row
        rows = list(csv.DictReader(io.StringIO(whole, newline="")))
        first = min((int(row["step"]) for row in rows), default=math.inf)
        logged = [row for row in logged if int(row["step"]) < first] + rows
    return logged


def read_series(folder: Path) -> dict[str, Series]:
    """Read steps and values of every logged metric.

    Args:
        folder: Folder that contains `version_N/metrics.csv`.
    """
    points: dict[str, dict[int, float]] = {}
    for row in read_rows(folder):
        for name, value in row.items():
            if name not in ("step", "epoch") and value:
                points.setdefault(name, {})[int(row["step"])] = float(value)
    return {
        name: (sorted(values), [values[step] for step in sorted(values)])
        for name, values in points.items()
    }


def read_epochs(folder: Path, metric: str) -> dict[int, float]:
    """Read the values of one metric by epoch, counted from 1.

    Args:
        folder: Folder that contains `version_N/metrics.csv`.
        metric: Name of a metric that is logged once per epoch.
    """
    rows = [row for row in read_rows(folder) if row.get(metric)]
    return {int(row["epoch"]) + 1: float(row[metric]) for row in rows}

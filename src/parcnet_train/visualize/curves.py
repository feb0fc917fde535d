"""Learning curves of one run, drawn from its CSV logs."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from parcnet_train.files import write_whole

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
        with file.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
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


def draw_curves(folder: Path, picture: Path, monitor: str) -> None:
    """Draw the loss, the monitored metric and the learning rate over the steps of a run.

    Args:
        folder: Folder that contains `version_N/metrics.csv`.
        picture: Path of the PNG file to write.
        monitor: Name of the metric that selects the best epoch.
    """
    series = read_series(folder)
    panels = (
        ("loss", {"train/loss_step": "train, per step", "val/loss": "validation"}),
        (monitor, {monitor: "validation"}),
        ("learning rate", {"train/lr": "per step"}),
    )
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(11, 3), layout="constrained")
        for axes, (title, names) in zip(figure.subplots(1, 3), panels, strict=True):
            for name, label in names.items():
                if name in series:
                    marker = "o" if name.startswith("val/") else None
                    axes.plot(*series[name], label=label, marker=marker, markersize=3, linewidth=1)
            axes.set(title=title, xlabel="step")
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend()
        png = io.BytesIO()
        figure.savefig(png, dpi=120)
        write_whole(picture, png.getvalue())

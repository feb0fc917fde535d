"""Curves of a run, from its CSV logs: losses, metric, learning rate and images per second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from parcnet_train.callbacks.averaging import raw_metric
from parcnet_train.callbacks.progress import IMAGES_PER_SECOND
from parcnet_train.pages.figures import Points, lines
from parcnet_train.pages.parts import Block, Drawing
from parcnet_train.visualize.curves import Series, read_rows, read_series

EVERY_STEP = ("train, each step", "each step")  # lines without markers


def curve_blocks(folder: Path, monitor: str) -> list[Block]:
    """Return the curves of a run; none if it has no logs.

    Args:
        folder: Run directory.
        monitor: Name of the metric that selects the best epoch.
    """
    series = in_epochs(folder / "csv")
    drawings = list(curves(series, monitor))
    if not drawings:
        return []
    text = "Single steps are noisy; in long runs, neighboring points are averaged."
    return [Block("Training", text, drawings)]


def curves(series: Mapping[str, Points], monitor: str) -> Iterator[Drawing]:
    """Yield the figures whose values were logged."""
    name = monitor.removeprefix("val/")
    raw = raw_metric(monitor)
    panels = {
        "loss": {
            "train, each step": "train/loss_step",
            "train, each epoch": "train/loss_epoch",
            "validation": "val/loss",
        },
        "metric": {"EMA weights" if raw in series else name: monitor, "trained weights": raw},
        "learning_rate": {"each step": "train/lr"},
        "images_per_second": {"each step": IMAGES_PER_SECOND},
    }
    titles = {
        "loss": "Loss",
        "metric": f"{name} of the validation set",
        "learning_rate": "Learning rate",
        "images_per_second": "Images per second",
    }
    for key, wanted in panels.items():
        found = {
            label: series[column]
            for label, column in wanted.items()
            if column in series and len(series[column][0]) > 1
        }
        if found:
            markers = [label for label in found if label not in EVERY_STEP]
            figure = lines(titles[key], found, "epoch", markers=markers)
            yield Drawing(f"curve_{key}", figure, f"{titles[key]}: {described(found)}.")


def described(series: Mapping[str, Points]) -> str:
    """Return the first, the last and the range of the values of some lines in words."""
    return "; ".join(
        f"{name} from {y[0]:.4g} to {y[-1]:.4g}, lowest {min(y):.4g}, highest {max(y):.4g}"
        for name, (_, y) in series.items()
    )


def in_epochs(folder: Path) -> dict[str, Points]:
    """Read every logged metric over the epochs that were done when it was logged.

    Args:
        folder: Folder that contains `version_N/metrics.csv`.
    """
    ends = last_steps(folder)
    return {
        name: (positions(steps, ends), values)
        for name, (steps, values) in read_series(folder).items()
    }


def last_steps(folder: Path) -> dict[int, int]:
    """Return the last logged step of every epoch, both counted from 0."""
    ends: dict[int, int] = {}
    for row in read_rows(folder):
        if row.get("epoch"):
            epoch, step = int(row["epoch"]), int(row["step"])
            ends[epoch] = max(ends.get(epoch, 0), step)
    return ends


def positions(steps: Series | Sequence[int], ends: Mapping[int, int]) -> list[float]:
    """Return the number of epochs that are done after some steps, with a fraction.

    Args:
        steps: Steps, counted from 0.
        ends: Last step of every epoch that is known.
    """
    epochs = sorted(ends)
    known = [0.0, *(epoch + 1.0 for epoch in epochs)]
    at = [0.0, *(ends[epoch] + 1.0 for epoch in epochs)]
    done: list[float] = np.interp(np.asarray(steps, float) + 1, at, known).tolist()
    return done

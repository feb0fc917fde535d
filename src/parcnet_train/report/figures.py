"""Figures of a report: accuracy against parameters with the paper's points, learning curves."""

from __future__ import annotations

import io
import logging
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from parcnet_train.report.ablation import PAPER_DATA, Group, Line, Other, Section
from parcnet_train.report.collected import Run
from parcnet_train.report.paper.figures import PAPER_FIGURES
from parcnet_train.visualize.curves import read_epochs

log = logging.getLogger(__name__)

COLUMNS = 4  # panels in a row of the learning curves
TICKS = (1, 2, 3, 5, 7, 10, 20, 30, 50, 100)  # millions
Named = tuple[str, Group]


def figures_of(sections: Sequence[Section], others: Sequence[Other]) -> dict[str, bytes]:
    """Draw all figures and return them as PNG files by their names."""
    figures = {}
    with mpl.rc_context({"font.size": 9}):
        for section in sections:
            ours = our_points(section, others)
            figures[f"accuracy_{section.task}.png"] = png(draw_accuracy(section.task, ours))
        for section in sections:
            lines = [line for line in section.lines if line.group]
            if lines:
                figures[f"curves_{section.task}.png"] = png(draw_learning(lines))
    return figures


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()


def our_points(section: Section, others: Sequence[Other]) -> dict[str, list[Named]]:
    """Return our trainings of a task by their data config."""
    metric = section.lines[0].row.metric_name
    named = [(f"row {line.row.number}", line.group) for line in section.lines if line.group]
    named += [
        (str(other.group.runs[0].results["backbone"]), other.group)
        for other in others
        if other.metric_name == metric and other.group.runs[0].results["action"] == "fit"
    ]
    points: dict[str, list[Named]] = {}
    for name, group in named:
        points.setdefault(str(group.runs[0].results["data"]), []).append((name, group))
    return points


def draw_accuracy(task: str, ours: Mapping[str, Sequence[Named]]) -> Figure:
    """Draw the paper's points and ours; points of the same data share a panel.

    Args:
        task: Task name: classification, detection or segmentation.
        ours: Our trainings by their data config.
    """
    paper, same = PAPER_FIGURES[task], PAPER_DATA[task][1]
    elsewhere = [data for data in ours if data != same]
    figure = Figure(figsize=(7 * (1 + len(elsewhere)), 5), layout="constrained")
    panels = figure.subplots(1, 1 + len(elsewhere), squeeze=False)[0]
    points: dict[tuple[float, float], list[str]] = {}  # two networks may share a point
    for name, size, metric in sorted(paper.points, key=lambda each: each[1]):
        points.setdefault((size, metric), []).append(name)
    panels[0].plot(*zip(*points, strict=True), "o", color="0.5", label=f"paper, {paper.source}")
    for index, (point, names) in enumerate(points.items()):
        label(panels[0], ", ".join(names), point, is_above=index % 2 == 0)
    if same in ours:
        draw_ours(panels[0], ours[same], same)
    title = f"{paper.name}" + ("" if same in ours else f"; ours on data={same}: not run")
    panels[0].set(title=title, ylabel=paper.metric)
    for axes, data in zip(panels[1:], elsewhere, strict=True):
        draw_ours(axes, ours[data], data)
        axes.set(title="other data than the paper's", ylabel=f"{paper.metric.split(',')[0]}, %")
    panels[0].set(xscale="log", xticks=TICKS)
    panels[0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panels[0].xaxis.set_minor_formatter(NullFormatter())
    for axes in panels:
        axes.set(xlabel="parameters, millions")
        axes.margins(0.15, 0.1)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    return figure


def draw_ours(axes: Any, named: Sequence[Named], data: str) -> None:
    """Draw our trainings: means, with the standard deviation over the seeds as error bars."""
    sizes = [group.parameters[0] / 1e6 for _, group in named]
    means = [group.mean for _, group in named]
    deviations = [group.deviation or 0.0 for _, group in named]
    axes.errorbar(
        sizes, means, deviations, fmt="*", color="C3", capsize=3, label=f"ours, data={data}"
    )
    for index, (name, _) in enumerate(named):
        label(axes, name, (sizes[index], means[index]), is_above=True)


def label(axes: Any, name: str, point: tuple[float, float], is_above: bool) -> None:
    """Write a name beside a point."""
    axes.annotate(
        name,
        point,
        xytext=(3, 5 if is_above else -5),
        textcoords="offset points",
        ha="left",
        va="bottom" if is_above else "top",
        fontsize=6.5,
    )


def draw_learning(lines: Sequence[Line]) -> Figure:
    """Draw the monitored metric over the epochs, one panel per row.

    The line is the mean over the seeds, and the band is one standard deviation to each side. An
    epoch is drawn only if all seeds have it. The first row is gray in the panels of the others.

    Args:
        lines: Rows that have runs.
    """
    count = len(lines)
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.2 * columns, 2.7 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    first = None
    for axes, line in zip(panels, lines, strict=False):
        assert line.group is not None
        epochs, means, deviations = learning(line.group.runs)
        if first is None:
            first = (epochs, means, f"row {line.row.number}")
        else:
            axes.plot(*first[:2], color="0.6", linewidth=1, label=first[2])
        low, high = ([m + s * d for m, d in zip(means, deviations, strict=True)] for s in (-1, 1))
        axes.fill_between(epochs, low, high, color="C0", alpha=0.25, linewidth=0)
        axes.plot(epochs, means, color="C0", marker=".", label=f"row {line.row.number}")
        kernel = ", ".join(f"{name} {value}" for name, value in line.row.columns)
        axes.set_title(f"row {line.row.number}: {kernel}", fontsize=7.5)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.legend(loc="lower right", fontsize=7)
    for axes in panels[count:]:
        axes.axis("off")
    metric = lines[0].row.metric_name.removeprefix("val/")
    figure.supxlabel("epoch")
    figure.supylabel(f"{metric}, %")
    return figure


def learning(runs: Sequence[Run]) -> tuple[list[int], list[float], list[float]]:
    """Return epochs, and mean and standard deviation of the metric over the runs that logged it."""
    series = [each for run in runs if (each := logged(run))]
    epochs = sorted(set.intersection(*(set(each) for each in series))) if series else []
    by_epoch = [[each[epoch] for each in series] for epoch in epochs]
    deviations = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in by_epoch]
    return epochs, [statistics.fmean(values) for values in by_epoch], deviations


def logged(run: Run) -> dict[int, float]:
    """Return the monitored metric by epoch in percent; empty if the CSV files cannot be read."""
    try:
        values = read_epochs(run.folder / "csv", run.results["monitor"])
    except (KeyError, TypeError, ValueError, OSError) as error:
        log.warning(
            "%s: the learning curve is left out, since csv/ cannot be read: %s", run.name, error
        )
        return {}
    return {epoch: 100 * value for epoch, value in values.items()}

"""Figures of a page: their style, and functions that turn arrays into figures.

A figure is drawn once and written twice: as SVG in the colors of the page, light or dark, and as
PNG on white.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Floats = npt.NDArray[np.float64]
Points = tuple[Sequence[float], Sequence[float]]  # x and y

INK, GRID = "#1c2024", "#8a929a"
# Hues that can be told apart on white and on black (at least 3:1), also by color-blind readers.
COLORS = ("#2f7fd1", "#d9730d", "#2e9e5b", "#a25ddc", "#e0483e", "#1499a8", "#b58900", "#8a929a")
SIZE = (4.6, 3.0)  # inches, of a figure beside others
POINTS = 400  # most points of a line; more are not seen
LONGEST = 22  # characters of a class name in a figure
MOST_CLASSES = 20  # classes of a figure; a table has all
OPACITY = 0.65  # of the strongest cell, so that text on it stays legible

STYLE: Any = {  # matplotlib's parameters
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # names of classes and runs may have dollar signs
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": f"cycler(color={list(COLORS)})",
    "grid.color": GRID,
    "grid.alpha": 0.3,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "svg.fonttype": "none",
}


def styled(draw: Any) -> Any:
    """Decorate a function that draws, so that it draws in the style of the pages."""

    @functools.wraps(draw)
    def inner(*arguments: Any, **named: Any) -> Any:
        with mpl.rc_context(STYLE):
            return draw(*arguments, **named)

    return inner


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file on white."""
    with mpl.rc_context(STYLE):
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=130)
        return stream.getvalue()


def svg_on_white(figure: Figure) -> bytes:
    """Return a figure as an SVG file on white, for a Markdown page."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": "page"}):
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", facecolor="white", metadata={"Date": None})
        return stream.getvalue()


def svg(figure: Figure, name: str) -> bytes:
    """Return a figure as an SVG file that takes color and font from the page around it.

    Args:
        figure: Figure to write.
        name: Name that no other figure of the page has; its definitions are named after it.
    """
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue().decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' id="[a-zA-Z.0-9]+_\d+"', "", text)  # not referred to
    text = re.sub(r"font: ([0-9.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = re.sub(r' (?:width|height)="[0-9.]+pt"', "", text)
    return text.replace(INK, "currentColor").encode()


def inline(content: bytes) -> str:
    """Return an SVG file as a part of an HTML page, which needs no names of namespaces."""
    return re.sub(r' xmlns(:\w+)?="[^"]*"', "", content.decode())


@styled
def lines(
    title: str,
    series: Mapping[str, Points],
    xlabel: str,
    ylabel: str = "",
    markers: Sequence[str] = (),
    unit: bool = False,
) -> Figure:
    """Draw lines.

    Args:
        title: Title of the figure.
        series: Points of every line, by its name.
        xlabel: Label of the x axis.
        ylabel: Label of the y axis.
        markers: Names of the lines whose points are marked.
        unit: Whether both axes reach from 0 to 1.
    """
    figure, axes = one_panel(title, xlabel, ylabel)
    for name, points in series.items():
        marker = "o" if name in markers else None
        axes.plot(*thinned(points), marker=marker, markersize=3)
    if unit:
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    if len(series) > 1:
        axes.legend(axes.lines, [*map(shorten, series)])  # also names that begin with _
    return figure


def one_panel(
    title: str, xlabel: str = "", ylabel: str = "", size: tuple[float, float] = SIZE
) -> tuple[Figure, Any]:
    """Return a figure with one panel."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    return figure, axes


def thinned(points: Points, most: int = POINTS) -> Points:
    """Return at most `most` points: means of neighbors, so that noise does not hide the trend."""
    x, y = (np.asarray(each, float) for each in points)
    if len(x) <= most:
        return list(x), list(y)
    edges = np.linspace(0, len(x), most + 1).astype(int)[:-1]
    counts = np.diff(np.append(edges, len(x)))
    return list(np.add.reduceat(x, edges) / counts), list(np.add.reduceat(y, edges) / counts)


@styled
def bars(
    title: str,
    names: Sequence[str],
    groups: Mapping[str, Sequence[float]],
    xlabel: str = "",
    form: str = "{:,.0f}",
) -> Figure:
    """Draw horizontal bars with their values, the first on top.

    Args:
        title: Title of the figure.
        names: Names of the bars.
        groups: Values of the bars, by the name of their group; NaN has no bar.
        xlabel: Label of the x axis.
        form: Format of the values.
    """
    height = max(1.6, 0.8 + 0.2 * len(names) * max(1, 0.8 * len(groups)))
    figure, axes = one_panel(title, xlabel, size=(SIZE[0], height))
    width = 0.8 / len(groups)
    for number, (group, values) in enumerate(groups.items()):
        places = np.arange(len(names)) + width * (number - (len(groups) - 1) / 2)
        drawn = axes.barh(places, np.nan_to_num(values), width, label=group)
        texts = [form.format(value) if np.isfinite(value) else "-" for value in values]
        axes.bar_label(drawn, texts, padding=2, fontsize=7)
    axes.set_yticks(range(len(names)), [shorten(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.18)
    if len(groups) > 1:
        figure.legend(loc="outside lower center", ncols=len(groups))
    return figure


@styled
def matrix(
    title: str,
    values: Floats,
    names: Sequence[str],
    xlabel: str,
    ylabel: str,
    form: str = "{:.0f}",
) -> Figure:
    """Draw a square matrix; the color of a cell is its share of the row.

    Args:
        title: Title of the figure.
        values: Values `(n, n)`.
        names: Names of rows and columns.
        xlabel: Label of the columns.
        ylabel: Label of the rows.
        form: Format of the values; what is rounded to 0 is not written.
    """
    count = len(values)
    side = max(SIZE[0], 1.6 + 0.34 * count)
    figure, axes = one_panel(title, xlabel, ylabel, (side, 0.9 * side))
    shares = values / np.maximum(values.sum(axis=1, keepdims=True), 1e-12)
    cells = np.zeros((*values.shape, 4))
    cells[..., :3] = mpl.colors.to_rgb(COLORS[0])
    cells[..., 3] = OPACITY * np.sqrt(shares.clip(0, 1))  # so that rare confusions are seen
    axes.imshow(cells, interpolation="nearest", aspect="auto")
    labels = [shorten(name) for name in names]
    axes.set_xticks(range(count), labels, rotation=90 if longest(labels) > 3 else 0)
    axes.set_yticks(range(count), labels)
    axes.grid(visible=False)
    for row, column in np.argwhere(values > 0).tolist():
        if (text := form.format(values[row, column])) != "0":
            axes.text(column, row, text, ha="center", va="center", fontsize=7)
    return figure


@styled
def density(title: str, x: Floats, y: Floats, xlabel: str, ylabel: str) -> Figure:
    """Draw how often points occur in a square from 0 to 1, the origin at the top left.

    Args:
        title: Title of the figure.
        x: Places from the left, in [0, 1].
        y: Places from the top, in [0, 1].
        xlabel: Label of the x axis.
        ylabel: Label of the y axis.
    """
    figure, axes = one_panel(title, xlabel, ylabel)
    counts, *_ = np.histogram2d(y, x, bins=24, range=((0, 1), (0, 1)))
    cells = np.zeros((*counts.shape, 4))
    cells[..., :3] = mpl.colors.to_rgb(COLORS[0])
    cells[..., 3] = counts / max(1, counts.max())
    axes.imshow(cells, extent=(0, 1, 1, 0), interpolation="nearest", aspect="auto")
    return figure


@styled
def histograms(
    title: str, groups: Mapping[str, Floats], xlabel: str, logarithmic: bool = False
) -> Figure:
    """Draw histograms of several groups as shares of each group.

    Args:
        title: Title of the figure.
        groups: Values by the name of their group.
        xlabel: Label of the x axis.
        logarithmic: Whether the bins are spaced logarithmically; values must be positive.
    """
    figure, axes = one_panel(title, xlabel, "share")
    values = np.concatenate(list(groups.values()))
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low * 0.9 - 1e-6, high * 1.1 + 1e-6
    edges = np.geomspace(low, high, 25) if logarithmic else np.linspace(low, high, 25)
    for name, each in groups.items():
        counts, _ = np.histogram(each, edges)
        axes.stairs(counts / max(1, len(each)), edges, label=name, linewidth=1.5)
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    if len(groups) > 1:
        axes.legend()
    return figure


def shorten(name: str, most: int = LONGEST) -> str:
    """Return a name of at most `most` characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def longest(names: Sequence[str]) -> int:
    """Return the length of the longest name."""
    return max(map(len, names), default=0)

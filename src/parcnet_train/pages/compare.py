"""The page that compares several runs: a table to sort and filter, curves, Table 2 of the paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from parcnet_train.pages.figures import COLORS, Points, inline, lines, svg
from parcnet_train.pages.parts import VALUES, Block, Drawing, plain
from parcnet_train.report.ablation import Group, Other, Section, all_facts
from parcnet_train.report.collected import Run
from parcnet_train.report.documents import Notes
from parcnet_train.report.figures import learning
from parcnet_train.report.grids import Grid
from parcnet_train.report.paired import half_interval
from parcnet_train.report.recipes import shown, told_of
from parcnet_train.runs.directories import RESULTS, read_values
from parcnet_train.visualize.pages import data_url, render

REMARK = (
    "The latency is the smallest that benchmark.target=latency found for the backbone, one image."
)
MOST_LINES = len(COLORS) - 1  # best rows that have a curve
CURVES = (
    "Validation metric, averaged over the seeds. "
    f"At most the {MOST_LINES} best rows per metric are drawn."
)
MOST_KEYS = 40  # differing keys of the table
LATENCY = re.compile(r"latency/(?P<backbone>[^/]+)/(?P<form>[^/]+/[^/]+)/milliseconds")


def page_of(
    title: str,
    sections: Sequence[Section],
    others: Sequence[Other],
    grids: Sequence[Grid],
    notes: Notes,
    figures: Mapping[str, bytes],
    folders: Sequence[Path],
) -> bytes:
    """Return the page.

    Args:
        title: Title of the page.
        sections: Rows of Table 2 and our runs of them.
        others: Our other runs.
        grids: Tables of the paper beside our runs.
        notes: Paragraphs after these tables.
        figures: PNG files by their names.
        folders: Folders whose benchmarks of the latency are shown.
    """
    groups = [line.group for each in sections for line in each.lines if line.group]
    groups += [other.group for other in others]
    latencies = latencies_below(folders)
    curves = Block("Curves", CURVES, list(curves_of(groups)))
    drawn = {each.name: svg_text(each) for each in curves.drawings}
    return render(
        "parcnet_train.pages",
        "compare.html.jinja",
        title=title,
        table=table_of(groups, latencies),
        remark=REMARK if latencies else "",
        curves=plain(curves, lambda each: each.name),
        picture=lambda name: {"svg": drawn[name]},
        grids=grids,
        notes=notes,
        figures={name: data_url(png, "image/png") for name, png in figures.items()},
    )


def svg_text(drawing: Drawing) -> str:
    """Return a figure as SVG for a page."""
    assert not isinstance(drawing.content, bytes)
    return inline(svg(drawing.content, drawing.name))


def table_of(groups: Sequence[Group], latencies: Mapping[str, str]) -> Grid:
    """Return one row per group: its results, and the configuration that differs between groups.

    Args:
        groups: Runs that differ only in their seed.
        latencies: Latency by backbone, as text.
    """
    facts = [facts_of(group.runs[0]) for group in groups]
    keys = differing(facts)
    columns: dict[str, Callable[[Group], str]] = {
        "run": name_of,
        "metric": lambda group: str(group.runs[0].results["monitor"]).removeprefix("val/"),
        "mean, %": lambda group: f"{group.mean:.2f}",
        "± 95 %": interval_of,
        "seeds": lambda group: str(len(group.runs)),
        "parameters": lambda group: f"{group.parameters[0]:,}",
        "multiply-adds": multiply_adds_of,
        "minutes": minutes_of,
        "latency, ms": lambda group: latencies.get(str(group.runs[0].results["backbone"]), ""),
    }
    told = {heading: [cell(group) for group in groups] for heading, cell in columns.items()}
    told = {heading: cells for heading, cells in told.items() if any(cells)}
    cells = [
        [*(column[n] for column in told.values()), *(shown(each.get(key)) for key in keys)]
        for n, each in enumerate(facts)
    ]
    numbers = [n for n, heading in enumerate(told) if heading not in ("run", "metric")]
    return Grid("Runs", [*told, *keys], cells, numbers=frozenset(numbers))


def facts_of(run: Run) -> dict[str, Any]:
    """Return the choices of a run, and everything that is known about it except its seed."""
    choices = {key: run.results.get(key) for key in ("task", "backbone")}
    return {**choices, **told_of(run), **all_facts(run)}


def differing(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose values differ, at most `MOST_KEYS`.

    Hashes of files are left out, and keys that have the same values as an earlier one.
    """
    every = dict.fromkeys(key for each in facts for key in each if "sha256" not in key)
    found: dict[tuple[str, ...], str] = {}
    for key in every:
        column = tuple(shown(each.get(key)) for each in facts)
        if len(set(column)) > 1 and key not in ("parameters", "checkpoint"):
            found.setdefault(column, key)
    return [*found.values()][:MOST_KEYS]


def name_of(group: Group) -> str:
    """Return the directory of the first run of a group."""
    return group.runs[0].name


def interval_of(group: Group) -> str:
    """Return half the 95 % interval of the mean; empty with one seed."""
    half = half_interval(list(group.values.values()))
    return "" if half is None else f"{half:.2f}"


def multiply_adds_of(group: Group) -> str:
    """Return the multiply-adds of one image at the size of the training, if they are known."""
    found = read_values(group.runs[0].folder / VALUES).get("multiply_adds")
    return "" if found is None else f"{found:,}"


def minutes_of(group: Group) -> str:
    """Return the time of the first run in minutes, if it is known."""
    run = group.runs[0]
    seconds = run.results.get("seconds")
    sessions = (run.provenance or {}).get("sessions") or []
    # Of a resumed training, only the time of the last session is known.
    return "" if seconds is None or len(sessions) > 1 else f"{seconds / 60:.1f}"


def latencies_below(folders: Sequence[Path]) -> dict[str, str]:
    """Return the smallest latency of each backbone in the benchmarks below some folders.

    Returns:
        Milliseconds with form and runtime, by the name of the backbone.
    """
    best: dict[str, tuple[float, str]] = {}
    for file in sorted(path for folder in folders for path in folder.rglob(RESULTS)):
        for key, value in read_values(file).items():
            match = LATENCY.fullmatch(key)
            if match:
                known = best.get(match["backbone"])
                if known is None or value < known[0]:
                    best[match["backbone"]] = value, match["form"]
    return {name: f"{value:.2f} ({form})" for name, (value, form) in best.items()}


def curves_of(groups: Sequence[Group]) -> Iterator[Drawing]:
    """Yield the metric of the validation set over the epochs, the best groups on one axis."""
    for monitor in dict.fromkeys(group.runs[0].results["monitor"] for group in groups):
        alike = [group for group in groups if group.runs[0].results["monitor"] == monitor]
        best = sorted(alike, key=lambda group: -group.mean)[:MOST_LINES]
        series: dict[str, Points] = {}
        for group in best:
            epochs, means, _ = learning(group.runs)
            if len(epochs) > 1:
                series[name_of(group)] = [float(epoch) for epoch in epochs], means
        if not series:
            continue
        name = str(monitor).removeprefix("val/")
        figure = lines(f"{name}, %", series, "epoch", markers=list(series))
        ends = "; ".join(f"{label} ends at {y[-1]:.2f}" for label, (_, y) in series.items())
        yield Drawing(f"compare_{name}", figure, f"{name} by epoch: {ends}.")

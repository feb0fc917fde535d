"""Table of runs for a terminal, with a sparkline of the metric."""

from __future__ import annotations

import bisect
import itertools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from parcnet_train.actions.watch.states import (
    FAILED,
    FINISHED,
    ORDER,
    RUNNING,
    STOPPED,
    RunState,
)
from parcnet_train.errors import printable
from parcnet_train.terminal import duration, progress_texts

COLUMNS = ("run", "state", "epoch", "metric", "best", "trend", "images/s", "left")
TEXTS = ("run", "state", "trend")  # the other columns are numbers
STYLES = {RUNNING: "cyan", FINISHED: "green", FAILED: "red", STOPPED: "yellow"}
LEVELS = "▁▂▃▄▅▆▇█"
TREND = 16  # characters of a sparkline
TREND_FROM = 100  # columns of a terminal that has room for sparklines
SHORTEST = 20  # columns for the name of a run, which is folded if it is longer
NOTES = 3  # runs that are explained below the table


def sparkline(values: Sequence[float], width: int = TREND) -> str:
    """Return the course of some numbers as a line of bars, from the lowest to the highest.

    Args:
        values: The numbers; more than `width` of them are averaged in groups.
        width: Largest number of bars.
    """
    count = min(width, len(values))
    ends = [round(place * len(values) / max(1, count)) for place in range(count + 1)]
    groups = [values[start:end] for start, end in itertools.pairwise(ends)]
    means = [sum(group) / len(group) for group in groups]
    if not means:
        return ""
    low, high = min(means), max(means)
    if low == high:
        return LEVELS[len(LEVELS) // 2] * count
    top = len(LEVELS) - 1
    return "".join(LEVELS[round(top * (mean - low) / (high - low))] for mean in means)


def common_folder(runs: Sequence[RunState], top: Path) -> Path:
    """Return the deepest folder that contains all runs; `top` if there are none."""
    return Path(os.path.commonpath([run.folder.parent for run in runs])) if runs else top


def groups_of(runs: Sequence[RunState], folder: Path) -> dict[str, list[RunState]]:
    """Return the runs by the folder that they are in, in their order.

    Args:
        runs: The runs.
        folder: Folder that contains all of them; the names of their folders are relative to it.
    """
    groups: dict[str, list[RunState]] = {}
    for run in runs:
        name = run.folder.parent.relative_to(folder).as_posix()
        groups.setdefault("" if name == "." else printable(name), []).append(run)
    return groups


def cells(run: RunState) -> dict[str, str]:
    """Return the text of every column; unknown values are empty."""
    epoch, metric, left = progress_texts(
        run.epoch, run.epochs, printable(run.metric), run.value, run.seconds_left
    )
    return {
        "run": printable(run.folder.name),
        "state": run.state,
        "epoch": epoch,
        "metric": metric,
        "best": "" if run.best is None else f"{run.best:.4f}",
        "trend": sparkline(run.values),
        "images/s": "" if run.pace is None else f"{run.pace:.3g}",
        "left": left,
    }


def note_of(run: RunState) -> str:
    """Return what there is to explain about a run; empty: nothing."""
    if run.silent is not None:
        return f"it has written no progress for {duration(run.silent // 60 * 60)}"
    return printable(run.reason)


def summary(runs: Sequence[RunState], folder: Path) -> str:
    """Return the number of runs in each state, in words."""
    name = printable(str(folder))
    if not runs:
        return f"There is no run below {name}"
    counts = Counter(run.state for run in runs)
    words = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    return f"{len(runs)} {'run' if len(runs) == 1 else 'runs'} below {name}: {words}"


def table_of(
    runs: Sequence[RunState], top: Path, console: Console, height: int | None = None
) -> RenderableType:
    """Return all runs as a table, with a summary above and explanations below.

    Args:
        runs: The runs, the most important ones first.
        top: Folder that was searched.
        console: Console that shows the table.
        height: Largest number of lines; None: no limit.
    """
    folder = common_folder(runs, top)
    head = Text(summary(runs, folder))
    if not runs:
        return head
    notes = [
        Text(f"{printable(run.folder.relative_to(folder).as_posix())}: {note}", "dim")
        for run in runs
        if (note := note_of(run))
    ]
    notes = notes if height is None else notes[:NOTES]
    widths = widths_of(runs, console)
    above = [head, row_of({name: name for name in widths}, widths, dict.fromkeys(widths, "bold"))]
    shown = len(runs)
    if height is not None:
        room = height - lines_of([*above, *notes], console) - 2
        counts = range(1, len(runs[:room]) + 1)
        lines = partial(lines_of_first, runs, folder, widths, console)
        shown = max(1, bisect.bisect_right(counts, room, key=lines))
    more = [Text(f"and {len(runs) - shown} more", "dim")] if shown < len(runs) else []
    return Group(*above, *rows_of(runs[:shown], folder, widths), *more, *notes)


def lines_of_first(
    runs: Sequence[RunState],
    folder: Path,
    widths: Mapping[str, int],
    console: Console,
    count: int,
) -> int:
    """Return the number of lines that the first runs take."""
    return lines_of(rows_of(runs[:count], folder, widths), console)


def widths_of(runs: Sequence[RunState], console: Console) -> dict[str, int]:
    """Return the width of every column, in characters; columns without room are left out."""
    texts = [dict(zip(COLUMNS, COLUMNS, strict=True)), *map(cells, runs)]
    widths = {name: max(cell_len(each[name]) for each in texts) for name in COLUMNS}
    if console.options.ascii_only or console.width < TREND_FROM:
        del widths["trend"]
    others = sum(width + 2 for name, width in widths.items() if name != "run")
    widths["run"] = min(widths["run"], max(SHORTEST, console.width - others))
    return widths


def rows_of(
    runs: Sequence[RunState], folder: Path, widths: Mapping[str, int]
) -> list[RenderableType]:
    """Return the rows of runs, with the name of their folder before the runs in it."""
    rows: list[RenderableType] = []
    for name, group in groups_of(runs, folder).items():
        rows += [Text(name, "bold")] if name else []
        rows += [row_of(cells(run), widths, {"state": STYLES[run.state]}) for run in group]
    return rows


def row_of(
    texts: Mapping[str, str], widths: Mapping[str, int], styles: Mapping[str, str]
) -> RenderableType:
    """Return one line of the table.

    Args:
        texts: Text of every column.
        widths: Width of every column that is shown, in characters.
        styles: Styles of some columns.
    """
    row = Table.grid(padding=(0, 2, 0, 0))
    for name, width in widths.items():
        justify = "left" if name in TEXTS else "right"
        row.add_column(width=width, justify=justify, overflow="fold")  # type: ignore[arg-type]
    row.add_row(*(Text(texts[name], styles.get(name, "")) for name in widths))
    return row


def lines_of(parts: Sequence[RenderableType], console: Console) -> int:
    """Return the number of lines that some parts of a table take."""
    return sum(len(console.render_lines(part)) for part in parts)

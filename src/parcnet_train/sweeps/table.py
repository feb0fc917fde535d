"""Display of a running sweep: a live table in a terminal, otherwise one log line per change."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from parcnet_train.errors import printable
from parcnet_train.files import is_number
from parcnet_train.runs.directories import PROGRESS, RESULTS, read_values
from parcnet_train.terminal import progress_texts

log = logging.getLogger(__name__)

WAITING, RUNNING, GOING_ON = "waiting", "running", "resuming"
FINISHED, BEFORE, FAILED, STOPPED = "finished", "already finished", "failed", "stopped"
PRUNED = {FINISHED: "pruned", BEFORE: "already pruned"}  # shown for trials that were pruned
SHOWN = ("epoch", "epochs", "metric", "value", "seconds_left")  # of progress.json
NUMBERS = tuple(key for key in SHOWN if key != "metric")
COLUMNS = ("job", "state", "epoch", "metric", "time left")


@dataclass
class Row:
    """Displayed state of a job.

    Attributes:
        name: Overrides that differ from those of other jobs.
        folder: Directory of the job.
        state: State of the job, one of the constants above.
        progress: Progress that its process has written, see `callbacks/progress.py`.
        reason: Reason of a failure.
        is_pruned: Whether `callbacks=pruning` has ended the job.
    """

    name: str
    folder: Path
    state: str = WAITING
    progress: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    is_pruned: bool = False

    def refresh(self) -> None:
        """Read the progress or the results that the job has written."""
        if self.state in (FINISHED, BEFORE):
            results = read_values(self.folder / RESULTS)
            name, epochs = str(results.get("monitor")), results.get("epochs")
            found = {
                "epoch": epochs,
                "epochs": read_values(self.folder / PROGRESS).get("epochs", epochs),
                "metric": name,
                "value": results.get(name),
            }
            self.is_pruned = bool(results.get("pruned"))
        elif self.state in (RUNNING, GOING_ON):
            found = read_values(self.folder / PROGRESS)
        else:
            return
        # Whatever else a damaged file holds is unknown.
        metric = found.get("metric")
        self.progress = {key: found[key] for key in NUMBERS if is_number(found.get(key))}
        if isinstance(metric, str):
            self.progress["metric"] = printable(metric)


def cells(row: Row) -> tuple[str, ...]:
    """Return the text of a row; unknown values are empty."""
    epoch, epochs, metric, value, left = map(row.progress.get, SHOWN)
    left = None if row.state == STOPPED else left
    state = PRUNED[row.state] if row.is_pruned else row.state
    return row.name, state, *progress_texts(epoch, epochs, metric, value, left)


def line(row: Row) -> str:
    """Return a row as one line of a log."""
    name, state, epoch, metric, left = cells(row)
    told = [f"epoch {epoch}" if epoch else "", metric, f"{left} left" if left else ""]
    return ", ".join([f"{name}: {state}", *(word for word in told if word)])


def table_of(rows: Sequence[Row]) -> Table:
    """Return all rows as a table for a terminal."""
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*map(escape, cells(row)))
    return table


class Display:
    """Display of rows whose states change; a context manager.

    Args:
        rows: Rows to show.
        console: Console to write to; None: the standard output.
    """

    def __init__(self, rows: Sequence[Row], console: Console | None = None) -> None:
        self.rows = rows
        console = console or Console()
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self.told = [self._change(row) for row in rows]

    def __enter__(self) -> Display:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.update()
        if self.live:
            self.live.stop()

    def update(self) -> None:
        """Read what the jobs have written, and show what has changed."""
        for row in self.rows:
            row.refresh()
        if self.live:
            self.live.update(table_of(self.rows), refresh=True)
            return
        for number, row in enumerate(self.rows):
            change = self._change(row)
            if change != self.told[number]:
                self.told[number] = change
                log.info("%s", line(row))

    @staticmethod
    def _change(row: Row) -> tuple[str, int]:
        """Return the state and the number of finished epochs; a change of them is logged."""
        return row.state, int(row.progress.get("epoch") or 0)

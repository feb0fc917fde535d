"""The jobs of a sweep while they run: a live table in a terminal, else one log line per change."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from parcnet_train.runs.directories import PROGRESS, RESULTS, read_values

log = logging.getLogger(__name__)

WAITING, RUNNING, GOING_ON = "waiting", "running", "going on"
FINISHED, BEFORE, FAILED, STOPPED = "finished", "finished before", "failed", "stopped"
COLUMNS = ("job", "state", "epoch", "metric", "time left")


@dataclass
class Row:
    """What is shown of a job.

    Attributes:
        name: its overrides that differ from those of other jobs.
        folder: its directory.
        state: one of the words above.
        progress: what its process has told of itself, see `callbacks/progress.py`.
        reason: why it has failed.
    """

    name: str
    folder: Path
    state: str = WAITING
    progress: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    def refresh(self) -> None:
        """Reads what the job has written: its progress, or its results."""
        if self.state in (FINISHED, BEFORE):
            results = read_values(self.folder / RESULTS)
            metric = results.get("monitor")
            self.progress = {
                "epoch": results.get("epochs"),
                "epochs": results.get("epochs"),
                "metric": metric,
                "value": results.get(metric or ""),
            }
        elif self.state in (RUNNING, GOING_ON):
            self.progress = read_values(self.folder / PROGRESS)


def cells(row: Row) -> tuple[str, ...]:
    """The text of a row: what is not known, or over, is left empty."""
    told = row.progress
    epoch, value, left = (told.get(name) for name in ("epoch", "value", "seconds_left"))
    return (
        row.name,
        row.state,
        "" if epoch is None else f"{epoch:.4g}/{told.get('epochs')}",
        "" if value is None else f"{told.get('metric')} {value:.4f}",
        "" if left is None or row.state == STOPPED else str(timedelta(seconds=round(left))),
    )


def line(row: Row) -> str:
    """The same as one line of a log."""
    name, state, epoch, metric, left = cells(row)
    told = [f"epoch {epoch}" if epoch else "", metric, f"{left} left" if left else ""]
    return ", ".join([f"{name}: {state}", *(word for word in told if word)])


def table_of(rows: Sequence[Row]) -> Table:
    """All rows, as a terminal shows them."""
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*map(escape, cells(row)))
    return table


class Display:
    """Shows rows until it is closed; a context manager.

    Args:
        rows: whose states change meanwhile.
        console: where they are shown.
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
        """Reads what the jobs have written, and shows what has changed."""
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
        """What is worth a line of a log: another state, another epoch done."""
        return row.state, int(row.progress.get("epoch") or 0)

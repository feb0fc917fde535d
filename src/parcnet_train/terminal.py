"""Terminal output: consoles, and progress bars that become a line per minute in log files."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeAlias

from rich.console import Console
from tqdm import tqdm

SECONDS = 60.0  # time between two lines
DAY = 86_400  # seconds
clock = time.monotonic


class Pulse:
    """A clock for lines that are due once a minute."""

    def __init__(self) -> None:
        self.started = self.printed = clock()

    def is_due(self) -> bool:
        """Return whether a minute has passed since the last line; if so, the next minute begins."""
        now = clock()
        if now - self.printed < SECONDS:
            return False
        self.printed = now
        return True

    def pace(self, done: int, total: float) -> str:
        """Format the images per second and the time left.

        Args:
            done: Number of images since the work began, at least one.
            total: Number of images of the whole work.
        """
        seconds = clock() - self.started
        left = duration(seconds * max(0.0, total - done) / done)
        return f"{done / seconds:.3g} images/s, {left} left"


class Lines:
    """A counter of images like a progress bar, which prints a line per minute to stderr.

    Args:
        name: Name of the work.
        total: Number of images.
    """

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total = name, total
        self.done = 0
        self.pulse = Pulse()

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def update(self, count: int = 1) -> None:
        """Count finished images."""
        self.done += count
        if self.done and self.pulse.is_due():
            pace = self.pulse.pace(self.done, self.total)
            line = f"{self.name}: {self.done:,} of {self.total:,} images, {pace}"
            print(line, file=sys.stderr, flush=True)


Bar: TypeAlias = "tqdm[Any] | Lines"


def progress(name: str, total: int) -> Bar:
    """Return a progress bar that counts images; outside a terminal, it prints a line per minute."""
    if not sys.stderr.isatty():
        return Lines(name, total)
    return tqdm(total=total, desc=name, unit=" images", dynamic_ncols=True)


def duration(seconds: float) -> str:
    """Return a time as days, hours, minutes and seconds, in at most eight characters."""
    days, rest = divmod(round(seconds), DAY)
    if days:
        return f"{days}d {rest // 3600}h"
    return str(timedelta(seconds=rest))


def progress_texts(
    epoch: float | None,
    epochs: float | None,
    metric: str | None,
    value: float | None,
    seconds_left: float | None,
) -> tuple[str, str, str]:
    """Return epoch, metric and time left of a run for a table; unknown values are empty.

    Args:
        epoch: Number of finished epochs, with a fraction.
        epochs: Number of all epochs.
        metric: Name of the monitored metric.
        value: Its newest value.
        seconds_left: Seconds until the end of the run.
    """
    of = "" if epochs is None else f"/{epochs:g}"
    return (
        "" if epoch is None else f"{epoch:.4g}{of}",
        "" if value is None or not metric else f"{metric.removeprefix('val/')} {value:.4f}",
        "" if seconds_left is None else duration(seconds_left),
    )


def wide_console(width: int) -> Console:
    """Return a console that exceeds a narrow terminal rather than cut off numbers.

    Args:
        width: Smallest width, in characters.
    """
    console = Console()
    console.width = max(console.width, width)
    return console

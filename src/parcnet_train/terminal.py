"""Output for people: progress bars, a line a minute where no terminal shows a bar, consoles."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeAlias

from rich.console import Console
from tqdm import tqdm

SECONDS = 60.0  # between two lines
clock = time.monotonic


class Pulse:
    """Tells when a minute has passed since the last line, or since the work began."""

    def __init__(self) -> None:
        self.started = self.told = clock()

    def is_due(self) -> bool:
        """Whether it is time for a line, which begins the next minute."""
        now = clock()
        if now - self.told < SECONDS:
            return False
        self.told = now
        return True

    def pace(self, done: int, total: float) -> str:
        """Images per second and time left, as a line shows them.

        Args:
            done: Images since the work began, at least one.
            total: Images of the whole work.
        """
        seconds = clock() - self.started
        left = timedelta(seconds=round(seconds * max(0.0, total - done) / done))
        return f"{done / seconds:.3g} images/s, {left} left"


class Lines:
    """Counts images as a bar does, and prints a line a minute on stderr.

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
        """Counts images that are done."""
        self.done += count
        if self.done and self.pulse.is_due():
            pace = self.pulse.pace(self.done, self.total)
            line = f"{self.name}: {self.done:,} of {self.total:,} images, {pace}"
            print(line, file=sys.stderr, flush=True)


Bar: TypeAlias = "tqdm[Any] | Lines"


def progress(name: str, total: int) -> Bar:
    """A bar that counts images; outside a terminal, a line a minute."""
    if not sys.stderr.isatty():
        return Lines(name, total)
    return tqdm(total=total, desc=name, unit=" images", dynamic_ncols=True)


def wide_console(width: int) -> Console:
    """A console that rather exceeds a narrow terminal than cuts numbers off.

    Args:
        width: characters that there is room for at least.
    """
    console = Console()
    console.width = max(console.width, width)
    return console

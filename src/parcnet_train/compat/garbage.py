"""Python's garbage collection while a command starts.

Imports create many objects that stay, and every full collection looks at all of them. So nothing is
collected until the work of the command begins (docs/benchmarks.md, "Start of a command").
"""

from __future__ import annotations

import gc


class Collection:
    """Garbage collection of a command, which is paused until its work begins."""

    def __init__(self) -> None:
        self.is_paused = False

    def pause(self) -> None:
        """Collect nothing from now on."""
        gc.disable()
        self.is_paused = True

    def resume(self) -> None:
        """Collect again, but never what exists now; without a pause, do nothing."""
        if self.is_paused:
            gc.freeze()
            gc.enable()
            self.is_paused = False


collection = Collection()

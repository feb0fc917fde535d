"""Work on many images in threads: decoding and reading release Python's lock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from parcnet_train.distributed.processes import own_cores
from parcnet_train.terminal import progress

BLOCK = 64  # items that are worked on ahead of the caller

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], title: str | None = None
) -> Iterator[Result]:
    """Yield the results of a function in order, computed in threads.

    Args:
        function: Function of an item; the first error that it raises is raised.
        items: Arguments.
        title: Title of a progress bar; None: no bar.
    """
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(own_cores()))
        bar = stack.enter_context(progress(title, len(items))) if title else None
        for start in range(0, len(items), BLOCK):
            for result in pool.map(function, items[start : start + BLOCK]):
                yield result
                if bar is not None:
                    bar.update()

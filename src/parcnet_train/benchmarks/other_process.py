"""Benchmark variants in a separate process, with the default memory settings of the C library.

The memory settings of this process cannot be undone for a single variant; see
`parcnet_train.compat.malloc`.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch

from parcnet_train.errors import TrainingError


class OtherProcess:
    """Variant that is built and called in another process; a context manager ends the process.

    Args:
        make: Function that builds the variant; it is defined at the top level of a module, so that
            the other process can import it.
        arguments: Arguments of `make`, plain values.
    """

    def __init__(self, make: Callable[..., Callable[[], object]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, self.theirs = context.Pipe()
        given = (self.theirs, torch.get_num_threads(), make, arguments)
        self.process = context.Process(target=serve, args=given, daemon=True)

    def __enter__(self) -> OtherProcess:
        self.process.start()
        self.theirs.close()  # otherwise the end of the process would not be noticed
        self.wait()
        return self

    def __call__(self) -> None:
        """Run the variant once and wait for it.

        Raises:
            TrainingError: If its process has ended, in most cases for lack of memory.
        """
        self.wait(go_on=True)

    def wait(self, go_on: bool = False) -> None:
        """Wait until the other process has finished; with `go_on`, let it run once more first."""
        try:
            if go_on:
                self.connection.send(None)
            self.connection.recv()
        except (EOFError, OSError) as error:  # the process ended while it was running or waiting
            self.process.join()
            raise TrainingError(
                f"the process of a variant ended with exit code {self.process.exitcode}. "
                "Fix: lower benchmark.batch_size or benchmark.image_size"
            ) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.terminate()
        self.process.join()


def serve(
    connection: Connection,
    threads: int,
    make: Callable[..., Callable[[], object]],
    arguments: tuple[Any, ...],
) -> None:
    """Build the variant, then run it on every request; this is the other process."""
    # Ctrl-C reaches both processes; the first one ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    run = make(*arguments)
    while True:
        connection.send(None)
        connection.recv()
        run()

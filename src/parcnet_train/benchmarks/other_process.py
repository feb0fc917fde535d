"""Runs a variant in a process of its own, which has the memory settings of the C library.

Those of this process cannot be taken back for a single variant: see `parcnet_train.compat.malloc`.
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
    """What `make` returns, made and called elsewhere; a context manager that ends the process.

    Args:
        make: makes the variant; of a module, so that it can be found from there.
        arguments: of `make`, plain values.
    """

    def __init__(self, make: Callable[..., Callable[[], object]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, self.theirs = context.Pipe()
        given = (self.theirs, torch.get_num_threads(), make, arguments)
        self.process = context.Process(target=serve, args=given, daemon=True)

    def __enter__(self) -> OtherProcess:
        self.process.start()
        self.theirs.close()  # else its end would not be noticed
        self.wait()
        return self

    def __call__(self) -> None:
        """Runs the variant once and waits for it.

        Raises:
            TrainingError: where its process has ended, for want of memory in most cases.
        """
        self.wait(go_on=True)

    def wait(self, go_on: bool = False) -> None:
        """Until the other process is done with what it does, or is to do now."""
        try:
            if go_on:
                self.connection.send(None)
            self.connection.recv()
        except (EOFError, OSError) as error:  # it ended while it worked, or while it waited
            self.process.join()
            raise TrainingError(
                f"a variant's process ended with exit code {self.process.exitcode}; "
                "use a smaller benchmark.batch_size or benchmark.image_size"
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
    """The other process: makes the variant, then runs it whenever it is told to."""
    # Ctrl-C reaches both processes; the first one ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    run = make(*arguments)
    while True:
        connection.send(None)
        connection.recv()
        run()

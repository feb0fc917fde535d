"""Errors that a user can cause and fix: shown as one line each, exit code 2, no traceback."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LONGEST = 500  # characters of a name in a message


@dataclass(frozen=True)
class Fault:
    """One fault of a configuration.

    Attributes:
        key: Dotted key of the value or group at fault; empty if the command line itself is wrong.
        message: One line: the given value, the expected one, and the fix.
    """

    key: str
    message: str

    def __str__(self) -> str:
        return self.message


class UserError(Exception):
    """Base class; the message names what was given, what is expected, and how to fix it.

    A message may quote names from files, so characters that a terminal would not print become
    escapes. Line ends remain: they separate faults.
    """

    def __init__(self, *args: object) -> None:
        lines = (each.split("\n") if isinstance(each, str) else None for each in args)
        super().__init__(
            *(
                each if parts is None else "\n".join(map(printable, parts))
                for each, parts in zip(args, lines, strict=True)
            )
        )


class ConfigError(UserError, ValueError):
    """All faults of a configuration at once.

    Args:
        faults: The faults, or the message of one.
        key: Key of that one.
    """

    def __init__(self, faults: Sequence[Fault] | str, key: str = "") -> None:
        self.faults = [Fault(key, faults)] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(map(str, self.faults)))


class DataError(UserError, ValueError):
    """A data set or one of its files is invalid."""


class UnreadableError(DataError):
    """A file of a data set cannot be read; a training can continue without it."""


class CheckpointError(UserError, ValueError):
    """A checkpoint is missing, unreadable, or belongs to a different model."""


class TrainingError(UserError, RuntimeError):
    """A training cannot continue."""


class UnwritableError(TrainingError):
    """A file cannot be written, for example because the disk is full."""


class ProcessError(UserError, RuntimeError):
    """One of the processes of a run has failed; it has printed why.

    Args:
        processes: Number of processes of the run.
        code: Exit code of the one that failed first.
    """

    def __init__(self, processes: int, code: int) -> None:
        self.processes = processes
        self.code = code
        super().__init__(
            f"trainer.devices: one of {processes} processes of this run ended with exit code "
            f"{code}; expected 0. Fix: solve the problem that the lines above describe"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to pickle the error: Ray passes those of its jobs between processes."""
        return type(self), (self.processes, self.code)


class ExportError(UserError, RuntimeError):
    """The output of an exported file does not match that of its network, or a file is refused."""


def printable(text: str) -> str:
    """Return a text with escapes for characters that cannot be printed, such as line ends."""
    if text.isprintable():
        return text
    escaped = (
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
    return "".join(escaped)


def listed(names: Sequence[str]) -> str:
    """Return the first names of a list, on one line of readable length."""
    first = ", ".join(printable(shortened(name)) for name in names[:3])
    return first + (", ..." if len(names) > 3 else "")


def shortened(name: object) -> str:
    """Return a name without its end if it is too long for a message."""
    text = str(name)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def unfit_name(name: str) -> str | None:
    """Return why a name cannot be written to lists, logs and results; None if it can."""
    if name.isprintable():  # as nearly all are, and known at once
        return None
    if any(unicodedata.category(char) == "Cs" for char in name):
        return "is not UTF-8 text"
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in name):
        return "has a control character or a line end"
    return None


def first_line(error: BaseException | str) -> str:
    """Return the first line of an error's message, or the name of its class if it is empty."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def reason_of(error: BaseException) -> str:
    """Return the operating system's message for a file error, otherwise its first line."""
    return getattr(error, "strerror", None) or first_line(error)


def message_of(error: UserError) -> str:
    """Return the message of an error, without the text that a data loader adds around it.

    A data loader raises the error of a worker again, with the worker's tracebacks as its message;
    the last traceback ends with the class and the original message.
    """
    text = str(error)
    if not text.startswith(f"Caught {type(error).__name__} in "):
        return text.strip()
    _, traceback, last = text.rpartition("Traceback (most recent call last):\n")
    name = f"{type(error).__module__}.{type(error).__qualname__}: "
    _, found, message = f"\n{last}".partition(f"\n{name}")
    return message.strip() if traceback and found else text.strip()


def print_error(error: UserError) -> None:
    """Print an error that a user can fix, one line per fault."""
    for line in message_of(error).splitlines():
        print(f"error: {line}", file=sys.stderr)

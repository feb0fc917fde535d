"""Errors that a user can cause and mend: shown as one line each, exit code 2, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence


class UserError(Exception):
    """Base of all of them; the message says what was given, what is allowed, and the way out."""


class ConfigError(UserError, ValueError):
    """Faults of a configuration, all at once."""

    def __init__(self, faults: Sequence[str] | str) -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.faults))


class DataError(UserError, ValueError):
    """A data set or one of its files is not as it should be."""


class UnreadableError(DataError):
    """A file of a data set cannot be read; a training can go on without it."""


class CheckpointError(UserError, ValueError):
    """A checkpoint is missing, unreadable, or of another model."""


class TrainingError(UserError, RuntimeError):
    """Training cannot go on."""


class ExportError(UserError, RuntimeError):
    """An exported file does not give what its network gives."""


def first_line(error: BaseException | str) -> str:
    """The first line of an error's message, or the name of its class when it has no message."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def reason_of(error: BaseException) -> str:
    """The system's own words for an error of a file, otherwise its first line."""
    return getattr(error, "strerror", None) or first_line(error)


def message_of(error: UserError) -> str:
    """The message of an error, without what a data loader's worker puts around it.

    The loader raises a worker's error again with the worker's tracebacks as its message; the last
    of them ends with the class and the original message.
    """
    text = str(error)
    if not text.startswith(f"Caught {type(error).__name__} in "):
        return text.strip()
    _, traceback, last = text.rpartition("Traceback (most recent call last):\n")
    name = f"{type(error).__module__}.{type(error).__qualname__}: "
    _, found, message = f"\n{last}".partition(f"\n{name}")
    return message.strip() if traceback and found else text.strip()


def print_error(error: UserError) -> None:
    """Shows what a user can mend, one line each."""
    for line in message_of(error).splitlines():
        print(f"error: {line}", file=sys.stderr)

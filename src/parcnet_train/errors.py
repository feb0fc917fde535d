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


def message_of(error: UserError) -> str:
    """The message alone, also of an error that a data worker raised.

    The data loader re-raises a worker's error with the worker's traceback as its message, whose
    last paragraph is the original one.
    """
    return str(error).rsplit(f"{type(error).__name__}: ", 1)[-1].strip()


def print_error(error: UserError) -> None:
    """Shows what a user can mend, one line each."""
    for line in message_of(error).splitlines():
        print(f"error: {line}", file=sys.stderr)

"""Files that are there as a whole or not at all."""

from __future__ import annotations

import contextlib
from pathlib import Path

from parcnet_train.errors import TrainingError


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file beside its place, makes the folder where there is none, and renames it.

    Raises:
        TrainingError: where the disk does not take it; a file of that name stays as it was.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise TrainingError(
            f"{path} cannot be written: {error.strerror}; make room, or write elsewhere: "
            "paths.runs=PATH"
        ) from error

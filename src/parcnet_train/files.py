"""Files that are there as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
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


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder for files in between; it is gone behind.

    Raises:
        TrainingError: where there is no room in it.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TrainingError(
            f"{tempfile.gettempdir()}, for files in between, is full: {error.strerror}; make room, "
            "or set TMPDIR=PATH"
        ) from error


def bytes_of(path: Path) -> int:
    """Length of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file())


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()

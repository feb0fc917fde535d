"""Files that are there as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from parcnet_train.errors import TrainingError, reason_of


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes its name when all of it is on the disk; makes its folder.

    Whenever a process or the machine stops, the previous file is there or the new one, whole.

    Raises:
        OSError: if the disk does not take it; a file of that name stays as it was.
    """
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except Exception:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder outlive a power cut, if the system lets it be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file as a whole or not at all, see `whole_file`.

    Raises:
        TrainingError: if the disk does not take it; a file of that name stays as it was.
    """
    try:
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        raise TrainingError(
            f"{path} cannot be written: {reason_of(error)}; make room, or write elsewhere: "
            "paths.runs=PATH"
        ) from error


def whole_link(path: Path, link: Callable[[Path], object]) -> None:
    """Put a link in place of whatever has its name.

    Args:
        path: Path of the link.
        link: Function that makes the link under the path that it is given.
    """
    # Not the name that `whole_file` opens: it would write into what a leftover link points to.
    partial = path.with_name(f"{path.name}.link.partial")
    partial.unlink(missing_ok=True)
    link(partial)
    partial.replace(path)
    sync_folder(path.parent)


def write_once(root: Path, write: Callable[[Path], None]) -> None:
    """Create a folder unless it exists.

    The folder appears when it is complete, so neither an interrupted call nor two simultaneous
    calls leave an incomplete one.

    Args:
        root: Path of the folder.
        write: Function that fills the folder that it is given, which is then renamed to `root`.
    """
    if root.is_dir():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=root.parent, prefix=f"{root.name}.partial-"))
    try:
        write(partial)
        partial.chmod(0o755)
        try:
            complete(partial, root)
        except OSError:
            if not root.is_dir():  # otherwise another process was faster
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # in case it did not become `root`


def complete(partial: Path, folder: Path) -> None:
    """Give a filled folder its name, which tells that it is complete, even after a power cut."""
    os.sync()
    partial.rename(folder)


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
            f"{tempfile.gettempdir()}, for files in between, is full: {reason_of(error)}; make "
            "room, or set TMPDIR=PATH"
        ) from error


def to_json(content: Any, indent: int | None = None) -> bytes:
    """The content of a JSON file, with null for numbers that are not finite.

    JSON has no word for those; `NaN`, which Python would write, other readers refuse.

    Args:
        content: Plain values.
        indent: Spaces by which the parts of a value are indented; None: all in one line.
    """
    return (json.dumps(finite(content), indent=indent, allow_nan=False) + "\n").encode()


def finite(content: Any) -> Any:
    """The same plain values with None for numbers that are not finite."""
    if isinstance(content, Mapping):
        return {name: finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def read_regular(path: Path) -> bytes:
    """Reads a file, but no FIFO, device or socket, which might never end.

    Args:
        path: Path of the file; links are followed.

    Raises:
        OSError: If it cannot be read, or is none.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is a FIFO, a device or a socket, not a file", str(path))
    return path.read_bytes()  # which names a folder as such


def bytes_of(path: Path) -> int:
    """Length of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file())


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()

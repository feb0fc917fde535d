"""Atomic file writes, and other tools for files."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from parcnet_train.errors import UnwritableError, first_line, reason_of

# What the user of a disk can change: it is full, a quota is used up, or it is mounted read-only.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for an atomic write, and create its folder.

    Whenever a process or the machine stops, either the previous file exists or the new one,
    complete.

    Raises:
        OSError: If the file cannot be written to the disk; an existing file of that name is
            unchanged.
    """
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:  # also Ctrl-C
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power failure, if the folder can be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically, see `whole_file`.

    Raises:
        UnwritableError: If the file cannot be written to the disk; an existing file of that name is
            unchanged.
    """
    try:
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path | str, error: OSError) -> UnwritableError:
    """Return the error for a file or folder of a run that cannot be written."""
    return UnwritableError(
        f"{path} cannot be written: {reason_of(error)}. Fix: {remedy(error)}, or write elsewhere "
        "with paths.runs=PATH"
    )


def remedy(error: BaseException) -> str:
    """Return what a user can do about a file that cannot be written.

    Args:
        error: Error of the operating system, or one that it has caused.
    """
    cause = error if isinstance(error, OSError) else error.__cause__ or error.__context__
    is_read_only = getattr(cause, "errno", None) in (errno.EROFS, errno.EACCES, errno.EPERM)
    return "make the folder writable" if is_read_only else "free some disk space"


def whole_link(path: Path, link: Callable[[Path], object]) -> None:
    """Create a link atomically, in place of any file of that name.

    A link that a power failure loses is made again by the next call, so nothing is flushed: data
    sets have many thousands.

    Args:
        path: Path of the link.
        link: Function that makes the link under the path that it is given.
    """
    # Not the name that `whole_file` opens: it would write into what a leftover link points to.
    partial = path.with_name(f"{path.name}.link.partial")
    partial.unlink(missing_ok=True)
    link(partial)
    partial.replace(path)


def write_once(root: Path, write: Callable[[Path], object]) -> None:
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
    """Rename a filled folder, so that it is complete under its name even after a power failure."""
    os.sync()
    partial.rename(folder)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make an empty folder for temporary files, which is removed at the end.

    Raises:
        UnwritableError: If the disk is full or read-only.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UnwritableError(
            f"{tempfile.gettempdir()}: the folder for temporary files cannot be written: "
            f"{reason_of(error)}. Fix: free some disk space, or set TMPDIR=PATH"
        ) from error


def to_json(content: Any, indent: int | None = None) -> bytes:
    """Return the content of a JSON file, with null for numbers that are not finite.

    JSON cannot represent such numbers; other readers refuse the `NaN` that Python would write.

    Args:
        content: Plain values.
        indent: Number of spaces per level of indentation; None: everything on one line.
    """
    return (json.dumps(finite(content), indent=indent, allow_nan=False) + "\n").encode()


def finite(content: Any) -> Any:
    """Return the same plain values with None for numbers that are not finite."""
    if isinstance(content, Mapping):
        return {name: finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def is_number(value: Any) -> bool:
    """Return whether a value of a JSON file is a finite number."""
    try:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    except OverflowError:  # an integer beyond the range of a float
        return False


class Readable(Protocol):
    """Path of a file: `Path`, or one in a store."""

    def stat(self) -> os.stat_result:
        """Return the mode of the file."""

    def read_bytes(self) -> bytes:
        """Return its content."""


def read_regular(path: Readable) -> bytes:
    """Read a regular file.

    Args:
        path: Path of the file; links are followed.

    Raises:
        OSError: If the file cannot be read, or is not a regular file.
    """
    refuse_endless(path)
    return path.read_bytes()  # its error for a folder says that it is one


def refuse_endless(path: Readable) -> None:
    """Refuse a FIFO, device or socket, which might never end.

    Raises:
        OSError: If the path is one, or does not exist.
    """
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a null character in the name
        raise OSError(errno.EINVAL, first_line(error), str(path)) from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(
            errno.EINVAL, "it is a FIFO, a device or a socket, not a regular file", str(path)
        )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 checksum of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bytes_of(path: Path) -> int:
    """Return the length of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file())


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()

"""Shared parts of the preparation: official archives, links and atomic file writes."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from parcnet_train.errors import DataError, first_line, reason_of, shortened
from parcnet_train.files import whole_file, whole_link
from parcnet_train.terminal import progress

Link = Literal["copy", "hard", "symbolic"]


def broken(path: Path, reason: str | Exception) -> DataError:
    """Return the error for an archive that is incomplete or not what its name says."""
    return DataError(
        f"{path}: {first_line(reason)}; expected the complete official file. Fix: download it again"
    )


@contextmanager
def in_one_line(root: Path) -> Iterator[None]:
    """Turn file system errors, such as a full disk or missing permissions, into user errors.

    Raises:
        DataError: If such an error occurs.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{shortened(error.filename or root)}: {reason_of(error)}. Fix: solve this problem and "
            "run the command again, which resumes where it stopped"
        ) from error


class Source(Protocol):
    """Files by name, in a folder or in an archive."""

    path: Path

    def size(self, name: str) -> int | None:
        """Return the number of bytes of a file; None if it does not exist."""

    def read(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents of files, in the order that takes least time."""


class Folder:
    """Files of a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self, name: str) -> int | None:
        """Return the number of bytes of a file; None if it does not exist."""
        file = self.path / name
        return file.stat().st_size if file.is_file() else None

    def read(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents of files."""
        return ((name, (self.path / name).read_bytes()) for name in names)


class Archive:
    """Files of a tar, compressed or not, found by exact names; no other file is unpacked."""

    def __init__(self, path: Path, archive: tarfile.TarFile, inside: str) -> None:
        self.path = path
        self.archive = archive
        with whole(path):
            members = [member for member in archive if member.isfile()]
        self.members = {member.name.removeprefix(f"{inside}/"): member for member in members}

    def size(self, name: str) -> int | None:
        """Return the number of bytes of a file; None if it does not exist."""
        return self.members[name].size if name in self.members else None

    def read(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents in the order of the archive; seeking backward would be slow."""
        for name in sorted(names, key=lambda name: self.members[name].offset):
            with whole(self.path):
                file = self.archive.extractfile(self.members[name])
                content = file.read() if file else b""
            yield name, content


@contextmanager
def open_source(path: Path, inside: str, official: str) -> Iterator[Source]:
    """Open an official archive, or the folder that was unpacked from it.

    Args:
        path: Path of the archive, of the unpacked folder, or of a folder that contains it.
        inside: Path of the folder within the archive.
        official: Official name of the archive, for messages.

    Raises:
        DataError: If the path is none of them.
    """
    if path.is_dir():
        yield Folder(path / inside if (path / inside).is_dir() else path)
        return
    if not path.is_file():
        raise DataError(
            f"{path} does not exist; expected {official}, or the folder {inside} that it contains"
        )
    with open_archive(path) as archive:
        yield Archive(path, archive, inside)


def open_archive(path: Path) -> tarfile.TarFile:
    """Open a tar, compressed or not.

    Raises:
        DataError: If the file is not a tar.
    """
    with whole(path):
        return tarfile.open(path)


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turn the errors of a damaged archive into user errors that name it.

    Raises:
        DataError: If the archive is damaged.
    """
    try:
        yield
    except (tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise broken(path, error) from error


def refuse_missing(source: Source, names: Collection[str]) -> None:
    """Check that a source contains all files that are needed.

    Raises:
        DataError: If files are missing, with their number and the first one.
    """
    if missing := sorted(name for name in names if source.size(name) is None):
        reason = f"it lacks {len(missing):,} of {len(names):,} files that are needed, first "
        raise broken(source.path, reason + missing[0])


def place(source: Source, targets: Mapping[str, Path], title: str, link: Link = "copy") -> None:
    """Copy or link the files that do not exist yet or have another size.

    Args:
        source: Source of the files.
        targets: Path to write to, by the file's name in the source.
        title: Title of the progress bar.
        link: Method for files of a folder: a copy, a hard link or a symbolic link. Files of an
            archive are always unpacked.

    Raises:
        DataError: If a hard link cannot be created.
    """
    missing = [
        name
        for name, target in targets.items()
        if not (target.is_file() and target.stat().st_size == source.size(name))
    ]
    with progress(title, len(missing)) as bar:
        if link == "copy" or isinstance(source, Archive):
            for name, content in source.read(missing):
                write_file(targets[name], content)
                bar.update()
            return
        make = link_hard if link == "hard" else Path.symlink_to
        for name in missing:
            whole_link(targets[name], partial(make, target=(source.path / name).resolve()))
            bar.update()


def link_hard(path: Path, target: Path) -> None:
    """Create a hard link.

    Raises:
        DataError: If the target is on another disk, or its file system has no hard links.
    """
    try:
        path.hardlink_to(target)
    except OSError as error:
        raise DataError(
            f"{target} cannot be linked from {path.parent} ({reason_of(error)}). Fix: link "
            "symbolically, or copy"
        ) from error


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text file with one line per element."""
    write_file(path, "".join(f"{line}\n" for line in lines).encode())


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically, see `whole_file`, whose errors `in_one_line` reports."""
    with whole_file(path) as file:
        file.write(content)

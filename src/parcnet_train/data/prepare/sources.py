"""What the scripts that prepare data sets share: official files, and files written whole."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from parcnet_train.errors import DataError, first_line, reason_of
from parcnet_train.files import whole_file
from parcnet_train.terminal import progress

Link = Literal["copy", "hard", "symbolic"]


def broken(path: Path, reason: str | Exception) -> DataError:
    """The error for an archive that is not what its name says, or not whole."""
    return DataError(
        f"{path}: {first_line(reason)}; is it the official file, and whole? Download it again"
    )


@contextmanager
def in_one_line(root: Path) -> Iterator[None]:
    """Tells of a full disk, or a file that may not be read, as of a fault that can be mended.

    Raises:
        DataError: where there is one.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: {reason_of(error)}; mend that and start again, it "
            "goes on where it was stopped"
        ) from error


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Lets a file appear under its name when it is whole.

    Args:
        path: of the file.
        write: is given the path of a hidden file beside it, which becomes the file.
    """
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)  # of a process that was killed
    write(partial)
    partial.replace(path)


class Source(Protocol):
    """Files by name, of a folder or of an archive."""

    path: Path

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where it is not there."""

    def read(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Contents, in the order that takes least time."""


class Folder:
    """Files of a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where it is not there."""
        file = self.path / name
        return file.stat().st_size if file.is_file() else None

    def read(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Contents by name."""
        return ((name, (self.path / name).read_bytes()) for name in names)


class Archive:
    """Files of a tar, compressed or not, found by their exact names: nothing else is unpacked."""

    def __init__(self, path: Path, archive: tarfile.TarFile, inside: str) -> None:
        self.path = path
        self.archive = archive
        with whole(path):
            members = [member for member in archive if member.isfile()]
        self.members = {member.name.removeprefix(f"{inside}/"): member for member in members}

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where it is not there."""
        return self.members[name].size if name in self.members else None

    def read(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Contents in the order of the archive, since a compressed one has no way back."""
        for name in sorted(names, key=lambda name: self.members[name].offset):
            with whole(self.path):
                file = self.archive.extractfile(self.members[name])
                content = file.read() if file else b""
            yield name, content


@contextmanager
def open_source(path: Path, inside: str, official: str) -> Iterator[Source]:
    """Opens an official archive, or the folder that was unpacked from it.

    Args:
        path: of the archive, or of the folder, or of the one that holds it.
        inside: path of the folder in the archive.
        official: name of the archive, for the message.

    Raises:
        DataError: where it is none of them.
    """
    if path.is_dir():
        yield Folder(path / inside if (path / inside).is_dir() else path)
        return
    if not path.is_file():
        raise DataError(
            f"{path} does not exist; allowed is {official}, or the folder {inside} that it holds"
        )
    with open_archive(path) as archive:
        yield Archive(path, archive, inside)


def open_archive(path: Path) -> tarfile.TarFile:
    """A tar, compressed or not.

    Raises:
        DataError: where it is none.
    """
    with whole(path):
        return tarfile.open(path)


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Tells which archive is damaged.

    Raises:
        DataError: where it is.
    """
    try:
        yield
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise broken(path, error) from error


def refuse_missing(source: Source, names: Collection[str]) -> None:
    """Refuses a source that lacks files.

    Raises:
        DataError: with how many, and the first.
    """
    if missing := sorted(name for name in names if source.size(name) is None):
        reason = f"it lacks {len(missing):,} of {len(names):,} files that are needed, first "
        raise broken(source.path, reason + missing[0])


def place(source: Source, targets: Mapping[str, Path], title: str, link: Link = "copy") -> None:
    """Copies or links the files that are not there yet, or of another size.

    Args:
        source: of the files.
        targets: where each goes, by its name there.
        title: of the progress bar.
        link: what becomes of files of a folder; those of an archive are unpacked.

    Raises:
        DataError: where a hard link cannot be made.
    """
    missing = [
        name
        for name, target in targets.items()
        if not (target.is_file() and target.stat().st_size == source.size(name))
    ]
    with progress(title, len(missing)) as bar:
        for name, write in writers(source, missing, link):
            write_whole(targets[name], write)
            bar.update()


def writers(
    source: Source, names: Collection[str], link: Link
) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """What writes each of the files."""
    if link == "copy" or isinstance(source, Archive):
        for name, content in source.read(names):
            yield name, partial(Path.write_bytes, data=content)
        return
    make = link_hard if link == "hard" else Path.symlink_to
    for name in names:
        yield name, partial(make, target=(source.path / name).resolve())


def link_hard(path: Path, target: Path) -> None:
    """Makes another name of a file.

    Raises:
        DataError: where it lies on another disk, or its disk knows no hard links.
    """
    try:
        path.hardlink_to(target)
    except OSError as error:
        raise DataError(
            f"{target} cannot be linked from {path.parent} ({reason_of(error)}); use --link "
            "symbolic, or leave --link out"
        ) from error


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Writes a text file, a line each."""
    with whole_file(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())

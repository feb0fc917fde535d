"""Files of a source: images by the names that annotations use, their sizes, and text files."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

from parcnet_train.data.channels import ORIENTATION
from parcnet_train.data.decoding import JPEG, PILLOW, SUFFIXES, decode, may_be_turned
from parcnet_train.data.folders import is_file, walk
from parcnet_train.data.headers import read_header
from parcnet_train.data.prepare.annotated import Split, split_named
from parcnet_train.distributed.threads import in_threads
from parcnet_train.errors import DataError, UnreadableError, first_line, reason_of
from parcnet_train.files import read_regular
from parcnet_train.sizes import Size

log = logging.getLogger(__name__)

UPRIGHT = 1
HASH = re.compile(r"[0-9a-f]{8}-(?=.)")  # label-studio puts it before the name of an upload

Item = TypeVar("Item")
Result = TypeVar("Result")


class Measured(NamedTuple):
    """Size of an image file.

    Attributes:
        shown: Height and width as shown: the EXIF orientation is applied.
        stored: Height and width as stored.
        orientation: EXIF orientation, 1 to 8.
    """

    shown: Size
    stored: Size
    orientation: int


class Images:
    """Image files of a folder, found by the names that annotation files use.

    Args:
        folder: Folder, searched with its subfolders.
        leaving_out: Names of folders whose images are masks.
    """

    def __init__(self, folder: Path, leaving_out: Sequence[str] = ()) -> None:
        self.folder = folder
        self.paths = [
            path
            for path in files_below(folder, SUFFIXES)
            if not set(path.split("/")[:-1]).intersection(leaving_out)
        ]
        self.known = set(self.paths)
        self.by_key: defaultdict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            name = PurePosixPath(path)
            for key in dict.fromkeys((name.name, name.stem, HASH.sub("", name.name, count=1))):
                self.by_key[key].append(path)

    def find(self, name: str, near: str = "") -> str | None:
        """Return the path of an image relative to the folder; None if there is no such image.

        Args:
            name: Path that an annotation file gives: relative to the folder or to the annotation
                file, absolute on another computer, with backslashes or `%20`, without a suffix, or
                with label-studio's hash before the name.
            near: Folder of the annotation file, relative to the folder; of several images of
                that name, the one with the longest common path is returned.
        """
        for plain in dict.fromkeys((name, unquote(name))):
            parts = [part for part in plain.replace("\\", "/").split("/") if part not in ("", ".")]
            if not parts:
                continue
            for start in (PurePosixPath(near), PurePosixPath()):
                wanted = simplified(start.joinpath(*parts))
                if wanted in self.known:
                    return wanted
            last = parts[-1]
            for key in dict.fromkeys((last, HASH.sub("", last, count=1))):
                if found := self.by_key.get(key):
                    return max(found, key=lambda path: alike(path, parts, near))
        return None

    def warn_of_others(self, used: Iterable[str]) -> None:
        """Warn about images that no annotation file belongs to, which are left out."""
        others = sorted(self.known.difference(used))
        if others:
            log.warning(
                "%s: %s of %s images have no annotation file and are left out (first: %s)",
                self.folder,
                f"{len(others):,}",
                f"{len(self.paths):,}",
                others[0],
            )


def alike(path: str, parts: Sequence[str], near: str) -> tuple[int, int]:
    """Return how well a path fits a name: equal parts from the end, and from the beginning."""
    own = path.split("/")
    ending = common(own[::-1], list(parts)[::-1])
    return ending, common(own, near.split("/"))


def common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the number of equal parts at the beginning of two paths."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def simplified(path: PurePosixPath) -> str:
    """Return a path without `..`, as far as its own folders allow."""
    kept: list[str] = []
    for part in path.parts:
        if part == ".." and kept:
            kept.pop()
        elif part != "..":
            kept.append(part)
    return "/".join(kept)


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Return the files of a folder and its subfolders with one of some suffixes, sorted.

    Links to folders that contain it are left out: what a conversion writes may lie there.
    """
    above = folder.resolve().parents
    return sorted(
        inside + entry.name
        for inside, entries in walk(folder, above)
        for entry in entries or ()
        if entry.name.lower().endswith(suffixes) and is_file(entry)
    )


def read_text(file: Path, key: str = "prepare.input") -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Args:
        file: Path of the file.
        key: Key of the configuration that names it or its folder, for messages.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return read_regular(file).decode("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{key}: {file} cannot be read ({reason_of(error)}); expected a text file"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{key}: {file} is not UTF-8 text. Fix: save it as UTF-8") from error


def read_json(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"prepare.input: {file} is not JSON, or is truncated ({first_line(error)}). Fix: "
            "export it again"
        ) from error


def read_content(file: Path) -> bytes:
    """Read an image file.

    Raises:
        UnreadableError: If it cannot be read; the message is the reason without the path.
    """
    try:
        return read_regular(file)
    except OSError as error:
        raise UnreadableError(reason_of(error)) from error


def measure(content: bytes) -> Measured:
    """Return the size of an image as `decode` would return it, in most cases without decoding it.

    Raises:
        UnreadableError: If it is not an image.
    """
    header = read_header(content)
    stored = header.size
    if header.kind == "JPEG" and content.startswith(JPEG) and not may_be_turned(content):
        return Measured(stored, stored, UPRIGHT)
    try:
        with PILLOW[header.kind](io.BytesIO(content)) as image:
            orientation = int(image.getexif().get(ORIENTATION, UPRIGHT))
    except Exception:  # Pillow raises nearly anything for a damaged file
        orientation = 0
    if orientation == UPRIGHT:
        return Measured(stored, stored, UPRIGHT)
    height, width = decode(content).shape[:2]
    return Measured((height, width), stored, orientation)


def read_embedded(file: Path) -> bytes:
    """Return the image that a JSON file of labelme contains.

    Raises:
        DataError: If the file cannot be read, or contains no image.
    """
    try:
        return base64.b64decode(read_json(file)["imageData"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"prepare.input: {file} contains no image in imageData") from error


def in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], title: str
) -> Iterator[Result | DataError]:
    """Return the results of a function in order, or its errors, computed in threads.

    Args:
        function: Function; a `DataError` that it raises takes the result's place.
        items: Arguments.
        title: Title of the progress bar.

    Raises:
        OSError: If the function raises it, as for a full disk.
    """

    def run(item: Item) -> Result | DataError:
        try:
            return function(item)
        except DataError as error:
            return error

    return in_threads(run, items, title)


def relative(path: Path, folder: Path) -> str:
    """Return a path relative to a folder, with slashes; empty for the folder and outside of it."""
    try:
        inside = path.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return ""
    return "" if inside == "." else inside


def split_of_path(name: str) -> Split | None:
    """Return the split that a folder on a path is named after."""
    return next(filter(None, map(split_named, PurePosixPath(name).parts[:-1])), None)


def lines_of(file: Path, key: str = "prepare.input") -> list[str]:
    """Return the non-empty lines of a text file, without surrounding white space; see `read_text`.

    Raises:
        DataError: If it cannot be read.
    """
    return [line.strip() for line in read_text(file, key).splitlines() if line.strip()]


def repeated(names: Iterable[str]) -> set[str]:
    """Return the names that occur more than once."""
    return {name for name, count in Counter(names).items() if count > 1}

"""Lists of a COCO file, read column by column; errors name the invalid entry."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from parcnet_train.data.detection.json_pieces import decode
from parcnet_train.data.stores.paths import AnyPath
from parcnet_train.errors import DataError, unfit_name
from parcnet_train.files import refuse_endless

LISTS = ("images", "annotations", "categories")
LONGEST = 60  # characters of a value that a message shows


def parse(file: AnyPath) -> dict[str, Any]:
    """Read the JSON of a COCO file, without the outlines of its objects.

    Raises:
        DataError: If the file is not JSON, or lacks one of the lists.
        OSError: If the file cannot be read.
    """
    try:
        refuse_endless(file)
        with file.open(encoding="utf-8-sig", newline="") as text, collector_off():
            document = decode(text, without_outline)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{file} is not JSON, or is truncated ({error}). Fix: download or create it again"
        ) from error
    for name in LISTS:
        if not (isinstance(document, dict) and isinstance(document.get(name), list)):
            raise DataError(
                f"{file} has no list {name!r}; expected an annotation file in COCO's format, "
                "with lists images, annotations and categories"
            )
    return document


@contextmanager
def collector_off() -> Iterator[None]:
    """Turn off Python's garbage collector, which would scan millions of new objects repeatedly."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """Drop the outline of an object, which makes up most of a COCO file, as soon as it is read.

    An entry without a box gets that of its outline.
    """
    outline = entry.pop("segmentation", None)
    if outline and "bbox" not in entry and (box := box_of(outline)) is not None:
        entry["bbox"] = box
    return entry


def box_of(outline: Any) -> list[float] | None:
    """Return left, top, width and height of an outline; None if it is not valid.

    Args:
        outline: Polygons, each a list of x and y in turn, whose box goes through the extreme
            points; or run lengths, whose box is that of their pixels.
    """
    try:
        if isinstance(outline, dict):
            from pycocotools import mask

            height, width = outline["size"]
            if isinstance(outline["counts"], list):
                outline = mask.frPyObjects(outline, height, width)
            found: list[float] = mask.toBbox(outline).tolist()
            return found
        points = np.concatenate([np.asarray(each, np.float64).reshape(-1, 2) for each in outline])
        begin = points.min(axis=0)
        return [*begin.tolist(), *(points.max(axis=0) - begin).tolist()]
    except (KeyError, TypeError, ValueError):
        return None


class Entries:
    """One list of a COCO file.

    Args:
        file: Path of the file, for messages.
        name: Name of the list.
        entries: Entries of the list.

    Raises:
        DataError: If an entry is invalid; the methods raise it for the first invalid entry, too.
    """

    def __init__(self, file: AnyPath, name: str, entries: list[Any]) -> None:
        self.file = file
        self.name = name
        self.entries = entries
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise DataError(
                    f"{file}: {name}[{number}]={short(entry)}: expected an object, {{...}}. Fix: "
                    "correct or remove that entry"
                )

    def refuse(self, wrong: npt.NDArray[np.bool_], keys: Sequence[str], words: str) -> None:
        """Raise an error for the first wrong entry, if there is one.

        Args:
            wrong: Marks of the wrong entries, `(n,)`, or of their wrong numbers, `(n, ...)`.
            keys: Keys whose values are wrong.
            words: Description of what is expected.
        """
        if not wrong.any():
            return
        number = int(np.argwhere(wrong)[0, 0])
        entry = self.entries[number]
        names = [key for key in ("id", "image_id") if key in entry and key not in keys]
        where = f" ({', '.join(f'{key} {short(entry[key])}' for key in names)})" if names else ""
        given = ", ".join(f"{key}={short(entry[key])}" for key in keys)
        raise DataError(
            f"{self.file}: {self.name}[{number}]{where}: {given}: {words}. Fix: correct "
            "or remove that entry"
        )

    def have(self, key: str) -> npt.NDArray[np.bool_]:
        """Return which entries have a key."""
        return np.array([key in entry for entry in self.entries], dtype=np.bool_)

    def values(self, key: str, default: float | None) -> list[Any]:
        """Return the values of a key; without a default, every entry must have it."""
        if default is not None:
            return [entry.get(key, default) for entry in self.entries]
        missing = ~self.have(key)
        if missing.any():
            raise DataError(
                f"{self.file}: {self.name}[{missing.argmax()}] has no {key!r}. Fix: correct "
                "or remove that entry"
            )
        return [entry[key] for entry in self.entries]

    def column(
        self, key: str, kinds: str, shape: tuple[int, ...], words: str, default: float | None = None
    ) -> npt.NDArray[Any]:
        """Return the values of a key as an array.

        Args:
            key: Key of the entries.
            kinds: Allowed kinds of numbers, as in `numpy.dtype.kind`.
            shape: Shape of each value.
            words: Description of what is expected.
            default: Value for entries without the key; None: every entry must have it.
        """
        values = self.values(key, default)
        array = array_of(values)
        if len(values) and not (array.dtype.kind in kinds and array.shape[1:] == shape):
            each = (array_of(value) for value in values)
            wrong = [not (one.dtype.kind in kinds and one.shape == shape) for one in each]
            self.refuse(np.array(wrong), (key,), words)
        return array.reshape(-1, *shape)

    def integers(self, key: str) -> npt.NDArray[np.int64]:
        """Return the values of a key as integers."""
        return self.column(key, "i", (), "expected an integer").astype(np.int64)

    def numbers(
        self, key: str, shape: tuple[int, ...] = (), default: float | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the values of a key as finite numbers, or as lists of finite numbers."""
        words = f"expected {shape[0]} finite numbers" if shape else "expected a finite number"
        numbers = self.column(key, "biuf", shape, words, default).astype(np.float64)
        self.refuse(~np.isfinite(numbers), (key,), words)
        return numbers

    def texts(self, key: str) -> list[str]:
        """Return the values of a key as strings that are valid file names, and else UTF-8 text."""
        values = self.values(key, None)
        is_file = key == "file_name"
        wrong = [not (is_name(text) and (is_file or unfit_name(text) is None)) for text in values]
        self.refuse(
            np.array(wrong), (key,), "expected a non-empty string without control characters"
        )
        return values

    def ids(self) -> npt.NDArray[np.int64]:
        """Return the ids: at least one, and all different."""
        if not self.entries:
            raise DataError(
                f"{self.file}: the list {self.name!r} is empty; expected an annotation file in "
                "COCO's format with at least one entry there"
            )
        ids = self.integers("id")
        self.refuse_repeated("id", ids)
        return ids

    def refuse_repeated(self, key: str, values: npt.NDArray[Any]) -> None:
        """Raise an error for the first entry that has the same value as an earlier one."""
        _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
        before = first[inverse]
        self.refuse(
            before < np.arange(len(values)),
            (key,),
            f"another entry of {self.name} has the same {key}",
        )

    def positions(self, key: str, ids: npt.NDArray[np.int64], of: str) -> npt.NDArray[np.int64]:
        """Return the position in another list of the id that each entry refers to.

        Args:
            key: Key of the reference.
            ids: Ids of the other list.
            of: Name of the other list.
        """
        wanted, order = self.integers(key), np.argsort(ids)
        found = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
        self.refuse(ids[found] != wanted, (key,), f"no entry of {of} has that id")
        return found


def array_of(value: Any) -> npt.NDArray[Any]:
    """Return a JSON value as an array; an array of objects if it does not consist of numbers."""
    try:
        return np.asarray(value)
    except (ValueError, OverflowError):  # lists of different lengths, or a huge integer
        return np.array(None)


def is_name(value: Any) -> bool:
    """Return whether a JSON value is a string that is a valid file name."""
    try:
        plain = os.fsencode(value).decode("utf-8", "replace")
        return value != "" and unfit_name(plain) is None
    except (TypeError, UnicodeEncodeError):  # no string, or a lone surrogate
        return False


def short(value: Any) -> str:
    """Return a value as JSON, shortened for messages."""
    try:
        text = json.dumps(value)
    except RecursionError:
        text = "a deeply nested value"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."

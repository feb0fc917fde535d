"""The lists of a COCO file as columns; what is not as it should be is named with its entry."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from parcnet_train.errors import DataError
from parcnet_train.files import read_regular

LISTS = ("images", "annotations", "categories")
LONGEST = 60  # letters of a value that a message repeats


def parse(file: Path) -> dict[str, Any]:
    """Reads the JSON of a COCO file, without the outlines of its objects.

    Raises:
        DataError: where it is no JSON, or has not those lists.
        OSError: where it cannot be read.
    """
    try:
        text = read_regular(file).decode("utf-8-sig")
        with collector_off():
            document = json.loads(text, object_hook=without_outline)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{file} is not JSON, or cut off ({error}); fetch or write it again"
        ) from error
    for name in LISTS:
        if not (isinstance(document, dict) and isinstance(document.get(name), list)):
            raise DataError(
                f"{file} has no list {name!r}; allowed is a file of annotations in COCO's format, "
                "with lists images, annotations and categories"
            )
    return document


@contextmanager
def collector_off() -> Iterator[None]:
    """Python's garbage collector would look through millions of new objects again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """Drops the outline of an object, which is most of COCO's files, as soon as it is read."""
    entry.pop("segmentation", None)
    return entry


class Entries:
    """One list of a COCO file.

    Args:
        file: for messages.
        name: of the list.
        entries: what it holds.

    Raises:
        DataError: here and from all methods, for the first entry that is not as it should be.
    """

    def __init__(self, file: Path, name: str, entries: list[Any]) -> None:
        self.file = file
        self.name = name
        self.entries = entries
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise DataError(
                    f"{file}: {name}[{number}]={short(entry)}: allowed is a mapping; mend or "
                    "remove that entry"
                )

    def refuse(self, wrong: npt.NDArray[np.bool_], keys: Sequence[str], words: str) -> None:
        """Refuses the first wrong entry.

        Args:
            wrong: `(n,)`, of each entry, or `(n, ...)`, of each of its numbers.
            keys: whose values are wrong.
            words: what is allowed.
        """
        if not wrong.any():
            return
        number = int(np.argwhere(wrong)[0, 0])
        entry = self.entries[number]
        names = [key for key in ("id", "image_id") if key in entry and key not in keys]
        where = f" ({', '.join(f'{key} {short(entry[key])}' for key in names)})" if names else ""
        given = ", ".join(f"{key}={short(entry[key])}" for key in keys)
        raise DataError(
            f"{self.file}: {self.name}[{number}]{where}: {given}: {words}; mend or remove that "
            "entry"
        )

    def have(self, key: str) -> npt.NDArray[np.bool_]:
        """Which entries have a key."""
        return np.array([key in entry for entry in self.entries], dtype=np.bool_)

    def values(self, key: str, default: float | None) -> list[Any]:
        """The values of a key; without a default, every entry must have it."""
        if default is not None:
            return [entry.get(key, default) for entry in self.entries]
        missing = ~self.have(key)
        if missing.any():
            raise DataError(
                f"{self.file}: {self.name}[{missing.argmax()}] has no {key!r}; mend or remove that "
                "entry"
            )
        return [entry[key] for entry in self.entries]

    def column(
        self, key: str, kinds: str, shape: tuple[int, ...], words: str, default: float | None = None
    ) -> npt.NDArray[Any]:
        """The values of a key as an array.

        Args:
            key: of the entries.
            kinds: of numbers that are allowed, as `numpy.dtype.kind` has them.
            shape: of each value.
            words: what is allowed.
            default: of entries without the key; None: all must have it.
        """
        values = self.values(key, default)
        array = array_of(values)
        if len(values) and not (array.dtype.kind in kinds and array.shape[1:] == shape):
            each = (array_of(value) for value in values)
            wrong = [not (one.dtype.kind in kinds and one.shape == shape) for one in each]
            self.refuse(np.array(wrong), (key,), words)
        return array.reshape(-1, *shape)

    def integers(self, key: str) -> npt.NDArray[np.int64]:
        """Whole numbers."""
        return self.column(key, "i", (), "allowed is a whole number").astype(np.int64)

    def numbers(
        self, key: str, shape: tuple[int, ...] = (), default: float | None = None
    ) -> npt.NDArray[np.float64]:
        """Finite numbers, or lists of so many."""
        words = f"allowed are {shape[0]} finite numbers" if shape else "allowed is a finite number"
        numbers = self.column(key, "biuf", shape, words, default).astype(np.float64)
        self.refuse(~np.isfinite(numbers), (key,), words)
        return numbers

    def texts(self, key: str) -> list[str]:
        """Texts that a file's name can be, too."""
        values = self.values(key, None)
        wrong = [not is_name(text) for text in values]
        self.refuse(np.array(wrong), (key,), "allowed is a text")
        return values

    def ids(self) -> npt.NDArray[np.int64]:
        """Ids, of which there is at least one, and each once."""
        if not self.entries:
            raise DataError(
                f"{self.file}: the list {self.name!r} is empty; allowed is a file of annotations "
                "in COCO's format, with at least one entry there"
            )
        ids = self.integers("id")
        self.refuse_repeated("id", ids)
        return ids

    def refuse_repeated(self, key: str, values: npt.NDArray[Any]) -> None:
        """Refuses the first entry whose value one before it has, too."""
        _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
        before = first[inverse]
        self.refuse(
            before < np.arange(len(values)), (key,), f"another entry of {self.name} has it, too"
        )

    def positions(self, key: str, ids: npt.NDArray[np.int64], of: str) -> npt.NDArray[np.int64]:
        """Where in a list the id is that each entry names.

        Args:
            key: under which it names it.
            ids: of that list.
            of: name of that list.
        """
        wanted, order = self.integers(key), np.argsort(ids)
        found = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
        self.refuse(ids[found] != wanted, (key,), f"no entry of {of} has that id")
        return found


def array_of(value: Any) -> npt.NDArray[Any]:
    """An array of a value of JSON; of objects, where it is none of numbers."""
    try:
        return np.asarray(value)
    except ValueError:  # lists of several lengths
        return np.array(None)


def is_name(value: Any) -> bool:
    """Whether a value of JSON is a text that a file's name can be, too."""
    try:
        return isinstance(value, str) and value != "" and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:  # half a letter
        return False


def short(value: Any) -> str:
    """A value as messages show it."""
    text = json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."

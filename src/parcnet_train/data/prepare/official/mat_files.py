"""Structures in MAT-files of version 5 (MATLAB 5 to 7.2), as ImageNet and SBD have them.

SciPy's reader trusts such a file: with a few changed bytes, it ends the process by a segmentation
fault. This one checks every length, and reads numbers and texts only. The format is described in
"MAT-File Format" by MathWorks.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Value: TypeAlias = "npt.NDArray[Any] | str"

HEADER = 128  # bytes
VERSION = 0x0100
ORDERS = {b"IM": "<", b"MI": ">"}  # byte orders by the mark at the end of the header
TAG = 8  # bytes before the content of an element
MATRIX, COMPRESSED = 14, 15  # types of elements
NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
STRUCTURE, CHARACTERS = 2, 4  # classes of arrays
# Numbers may be stored in a smaller type than that of their class.
CLASSES = dict(enumerate(("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), 6))
IS_COMPLEX = 0x0800
LARGEST = 2**26  # bytes of an uncompressed variable, many times those of the official files


def read_structure(content: bytes, variable: str, fields: Sequence[str]) -> list[dict[str, Value]]:
    """Read fields of an array of structures.

    Args:
        content: Content of the file.
        variable: Name of the array.
        fields: Names of the fields to read.

    Returns:
        The fields of every structure, in MATLAB's order: texts, or arrays of numbers.

    Raises:
        ValueError: If the file is damaged, or has no such array.
    """
    order = ORDERS.get(content[HEADER - 2 : HEADER])
    if order is None or struct.unpack_from(f"{order}H", content, HEADER - 4)[0] != VERSION:
        raise ValueError("it is not a MAT-file of version 5")
    for kind, part in elements(memoryview(content)[HEADER:], order):
        if kind == COMPRESSED:
            ((kind, part),) = elements(memoryview(uncompressed(part)), order)
        if kind != MATRIX:
            continue
        parts = elements(part, order)
        flags, shape, name = head(parts, order)
        if name == variable:
            if flags & 0xFF != STRUCTURE:
                raise ValueError(f"its variable {variable} is not a structure")
            return list(structures(parts, order, shape, fields))
    raise ValueError(f"it has no variable {variable}")


def elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield type and content of the elements that follow each other.

    Raises:
        ValueError: If the content ends within an element.
    """
    at = 0
    while at < len(content):
        if len(content) < at + TAG:
            raise ValueError("it is truncated")
        kind, size = struct.unpack_from(f"{order}II", content, at)
        start, end = at + TAG, at + TAG + size
        at = end if kind == COMPRESSED else end + -size % TAG
        if kind >> 16:  # a small element: its content is within the tag
            kind, size = kind & 0xFFFF, kind >> 16
            at, end = start, start - 4 + size
            start -= 4
            if size > 4:
                raise ValueError("one of its elements has an invalid length")
        if end > len(content):
            raise ValueError("it is truncated")
        yield kind, content[start:end]


def uncompressed(content: memoryview) -> bytes:
    """Return the content of a compressed element.

    Raises:
        ValueError: If it is damaged, or larger than `LARGEST`.
    """
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(content, LARGEST)
    except zlib.error as error:
        raise ValueError(f"it is damaged ({error})") from error
    if not stream.eof:
        raise ValueError("it is truncated, or one of its variables is too large")
    return found


def head(parts: Iterator[tuple[int, memoryview]], order: str) -> tuple[int, tuple[int, ...], str]:
    """Read flags, shape and name of an array from its first elements.

    Raises:
        ValueError: If one is missing or invalid.
    """
    try:
        (_, flags), (_, shape), (_, name) = next(parts), next(parts), next(parts)
    except StopIteration:
        raise ValueError("one of its arrays is truncated") from None
    lengths = np.frombuffer(shape, f"{order}i4").tolist()
    if len(flags) != 8 or len(lengths) < 2 or min(lengths) < 0:
        raise ValueError("one of its arrays has no valid shape")
    return int(np.frombuffer(flags, f"{order}u4")[0]), tuple(lengths), bytes(name).decode("latin-1")


def structures(
    parts: Iterator[tuple[int, memoryview]], order: str, shape: Sequence[int], fields: Sequence[str]
) -> Iterator[dict[str, Value]]:
    """Yield the wanted fields of each structure of an array, from the elements after its head.

    Raises:
        ValueError: If a field is missing or invalid.
    """
    try:
        (_, length), (_, text) = next(parts), next(parts)
    except StopIteration:
        raise ValueError("one of its arrays is truncated") from None
    width = int.from_bytes(length, "little" if order == "<" else "big")
    if not 0 < width <= max(1, len(text)):
        raise ValueError("the names of its fields are damaged")
    names = [
        bytes(text[start : start + width]).partition(b"\0")[0].decode("latin-1")
        for start in range(0, len(text), width)
    ]
    if missing := [name for name in fields if name not in names]:
        raise ValueError(f"it has no field {missing[0]}")
    values = list(parts)
    if len(values) != int(np.prod(shape, dtype=object)) * len(names):
        raise ValueError("one of its arrays is truncated")
    places = [(name, names.index(name)) for name in fields]
    for first in range(0, len(values), len(names)):
        yield {name: value_of(*values[first + place], order) for name, place in places}


def value_of(kind: int, content: memoryview, order: str) -> Value:
    """Return an array of numbers, or a text.

    Raises:
        ValueError: If it is something else, or damaged.
    """
    if kind != MATRIX:
        raise ValueError("one of its fields is not an array")
    parts = elements(content, order)
    flags, shape, _ = head(parts, order)
    kind, data = next(parts, (0, memoryview(b"")))
    of_class = flags & 0xFF
    if of_class == CHARACTERS and kind in TEXTS and shape[0] <= 1:
        encoding = TEXTS[kind]
        if encoding == "utf-16":
            encoding += "-le" if order == "<" else "-be"
        return bytes(data).decode(encoding)
    if of_class not in CLASSES or kind not in NUMBERS or flags & IS_COMPLEX:
        raise ValueError("one of its fields has an unexpected type")
    numbers = np.frombuffer(data, order + NUMBERS[kind])
    if numbers.size != int(np.prod(shape, dtype=object)):
        raise ValueError("one of its arrays has another size than its shape says")
    return numbers.astype(CLASSES[of_class]).reshape(shape, order="F")

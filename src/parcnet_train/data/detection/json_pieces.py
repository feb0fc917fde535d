"""Large JSON files, decoded piece by piece: their text is never in memory as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TextIO

PIECE = 1 << 24  # characters that are read at a time
TAIL = 1 << 20  # characters before the end of a piece in which an object begins
SPACE = re.compile(r"[ \t\n\r]*")
BETWEEN = re.compile(r"(?<=\})[ \t\n\r]*,[ \t\n\r]*(?=\{)")  # two objects of a list

Hook = Callable[[dict[str, Any]], Any]


def decode(stream: TextIO, hook: Hook, piece: int = PIECE) -> Any:
    """Decode JSON as `json.loads` does, an object with long lists of objects in less memory.

    Args:
        stream: Text from its beginning; it can be read again.
        hook: Function that every decoded object passes through, inner ones first.
        piece: Number of characters that are read at a time.

    Raises:
        ValueError: If the text is not JSON.
    """
    start = stream.tell()
    try:
        return Pieces(stream, hook, piece).document()
    except ValueError:  # something else than an object, or a fault, which the whole text names
        stream.seek(start)
        return json.loads(stream.read(), object_hook=hook)


class Pieces:
    """Text that is read as far as it is decoded.

    Args:
        stream: Text from its beginning.
        hook: Function that every decoded object passes through.
        piece: Number of characters that are read at a time.

    Raises:
        ValueError: If the text is not an object of JSON; every method raises it.
    """

    def __init__(self, stream: TextIO, hook: Hook, piece: int) -> None:
        self.stream = stream
        self.piece = piece
        self.decode = json.JSONDecoder(object_hook=hook).raw_decode
        self.hook = hook
        self.text = ""
        self.at = 0  # position in the text up to which it is decoded
        self.cut: int | None = None  # see `last_cut`

    def document(self) -> Any:
        """Decode the whole text, which is an object."""
        self.take("{")
        found = {}
        mark = self.take("}") if self.next() == "}" else ","
        while mark == ",":
            if self.next() != '"':
                raise ValueError
            key = self.value()
            self.take(":")
            found[key] = self.elements() if self.next() == "[" else self.value()
            mark = self.take(",}")
        if self.next():
            raise ValueError
        return self.hook(found)

    def elements(self) -> list[Any]:
        """Decode a list, many objects at a time."""
        self.take("[")
        found: list[Any] = []
        mark = self.take("]") if self.next() == "]" else ","
        at_once = True
        while mark == ",":
            several = self.objects() if at_once else None
            at_once = several is not None
            found += [self.value()] if several is None else several
            mark = self.take(",]")
        return found

    def objects(self) -> list[Any] | None:
        """Decode values of a list up to the last complete object; None if that is an inner one."""
        cut = self.last_cut()
        if cut <= self.at:
            return [self.value()]
        try:
            values, end = self.decode(f"[{self.text[self.at : cut]}]", 0)
        except ValueError:
            return None
        if not values:  # the list ends after a comma
            raise ValueError
        self.at += end - 2  # at the comma, or at the end of the list
        return list(values)

    def last_cut(self) -> int:
        """Return the end of the last complete object that another one follows; 0 if none is found.

        It is searched once in each text.
        """
        if self.cut is None:
            cuts = BETWEEN.finditer(self.text, max(self.at, len(self.text) - TAIL))
            self.cut = max((each.start() for each in cuts), default=0)
        return self.cut

    def value(self) -> Any:
        """Decode a value."""
        self.next()
        while True:
            try:
                value, end = self.decode(self.text, self.at)
            except ValueError:
                if not self.fill():
                    raise
                continue
            if end < len(self.text) or not self.fill():  # a number may go on in the next piece
                self.at = end
                return value

    def take(self, marks: str) -> str:
        """Pass the next character, one of several."""
        mark = self.next()
        if not mark or mark not in marks:
            raise ValueError
        self.at += 1
        return mark

    def next(self) -> str:
        """Return the next character after white space, or an empty text at the end."""
        while True:
            self.at = SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text) or not self.fill():
                return self.text[self.at : self.at + 1]

    def fill(self) -> bool:
        """Read another piece, at least as long as what is left; return whether there was one."""
        rest = self.text[self.at :]
        more = self.stream.read(max(self.piece, len(rest)))
        self.text, self.at, self.cut = rest + more, 0, None
        return bool(more)

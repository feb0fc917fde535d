"""The colours in which PASCAL VOC shows classes."""

from __future__ import annotations


def voc_palette() -> list[int]:
    """256 colours, red, green and blue of each in turn, as a PNG file has them.

    The bits of an index, from the lowest on, go to red, green and blue by turns, the highest bit of
    each first (VOC development kit, `VOClabelcolormap`).
    """
    return [
        sum((index >> 3 * turn + channel & 1) << 7 - turn for turn in range(8))
        for index in range(256)
        for channel in range(3)
    ]

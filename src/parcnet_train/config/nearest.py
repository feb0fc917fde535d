"""Suggestions for a word that does not exist."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher


def nearest(word: str, allowed: Sequence[str], cutoff: float = 0.75) -> str:
    """Return `; did you mean X?` if the word is probably a misspelling of an allowed one.

    Args:
        word: Key or value that was given. Numbers, paths and single letters have no near word.
        allowed: Words that it may stand for. Keys are compared part by part.
        cutoff: Smallest likeness of each part, from 0 to 1.
    """
    if len(word) < 2 or re.search(r"[/\\~]", word) or is_number(word):
        return ""
    likely = [each for each in allowed if each.endswith(f".{word}")]  # `epochs`, `optimizer.lr`
    if len(likely) != 1:
        found = {each: likeness(word.lower(), each.lower()) for each in allowed}
        likely = sorted((each for each in allowed if found[each] >= cutoff), key=found.__getitem__)
    return f"; did you mean {likely[-1]}?" if likely else ""


def is_number(text: str) -> bool:
    """Return whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def likeness(one: str, other: str) -> float:
    """Return how similar two words are, 0 to 1; for dotted keys, the least similar part."""
    parts, others = one.split("."), other.split(".")
    if len(parts) != len(others):
        return 0.0
    return min(likeness_of_parts(*pair) for pair in zip(parts, others, strict=True))


def likeness_of_parts(one: str, other: str) -> float:
    """Return the share of letters that two words have in common, in order."""
    short, long = sorted((one, other), key=len)
    # Two letters that changed places, or one that was doubled, are a large part of a short word.
    is_slip = set(short) == set(long) and len(long) - len(short) < 2
    is_beginning = len(short) > 2 and long.startswith(short)
    return max(0.8 * (is_slip or is_beginning), SequenceMatcher(None, one, other).ratio())

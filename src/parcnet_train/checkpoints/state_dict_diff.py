"""In what two sets of weights differ, in words that name every entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # composing a configuration needs no torch
    from torch import Tensor


def weight_differences(
    held: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    published: Mapping[str, str] | None = None,
) -> list[str]:
    """Compares names and shapes of weights.

    Args:
        held: what a file holds.
        expected: what the network has; values may be on the meta device.
        published: names of the held entries in the file, where they have others there.

    Returns:
        A line per module for what is missing, for what is too many, and for each pair of sizes
        that differ; none where all are equal.
    """
    names = published or {}
    missing = [name for name in expected if name not in held]
    extra = [names.get(name, name) for name in held if name not in expected]
    lines = [f"missing: {line}" for line in by_module(missing)]
    lines += [f"too many: {line}" for line in by_module(extra)]
    misshapen: dict[tuple[str, str], list[str]] = {}
    for name, value in expected.items():
        if name in held and held[name].shape != value.shape:
            sizes = f"{size_of(held[name])}, not {size_of(value)}"
            there = names.get(name, name).rpartition(".")[0]
            misshapen.setdefault((sizes, there), []).append(name)
    for (sizes, there), group in misshapen.items():
        for line in by_module(group):
            origin = "" if line.startswith(f"{there}.") else f" (there: {there})"
            lines.append(f"misshapen: {line}{origin} is {sizes}")
    return lines


def by_module(names: Iterable[str]) -> list[str]:
    """Groups dotted names by all but their last part: `norm.{weight,bias}`."""
    groups: dict[str, list[str]] = {}
    for name in names:
        module, _, entry = name.rpartition(".")
        groups.setdefault(module, []).append(entry)
    lines = []
    for module, entries in groups.items():
        entry = entries[0] if len(entries) == 1 else f"{{{','.join(entries)}}}"
        lines.append(f"{module}.{entry}".removeprefix("."))
    return lines


def size_of(value: Tensor) -> str:
    """Shape as `16x3x3x3`, `()` of a number."""
    return "x".join(map(str, value.shape)) or "()"

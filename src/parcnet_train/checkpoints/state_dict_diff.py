"""Differences between two state dicts, as lines of text that name every entry."""

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
    """Compare names and shapes of weights.

    Args:
        held: Weights of a file.
        expected: Weights of the network; they may be on the meta device.
        published: Names that entries have in the file, if it calls them differently.

    Returns:
        One line per module for missing entries, for unexpected entries, and for each pair of
        different shapes. The list is empty if names and shapes are equal.
    """
    names = published or {}
    missing = [name for name in expected if name not in held]
    extra = [names.get(name, name) for name in held if name not in expected]
    lines = [f"missing: {line}" for line in by_module(missing)]
    lines += [f"unexpected: {line}" for line in by_module(extra)]
    mismatched: dict[tuple[str, str], list[str]] = {}
    for name, value in expected.items():
        if name in held and held[name].shape != value.shape:
            sizes = f"{size_of(held[name])}, expected {size_of(value)}"
            there = names.get(name, name).rpartition(".")[0]
            mismatched.setdefault((sizes, there), []).append(name)
    for (sizes, there), group in mismatched.items():
        for line in by_module(group):
            origin = "" if line.startswith(f"{there}.") else f" (published as {there})"
            lines.append(f"wrong shape: {line}{origin} is {sizes}")
    return lines


def by_module(names: Iterable[str]) -> list[str]:
    """Group dotted names by all but their last part: `norm.{weight,bias}`."""
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
    """Return a shape as text: `16x3x3x3`, or `()` for a scalar."""
    return "x".join(map(str, value.shape)) or "()"

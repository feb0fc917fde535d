"""A published state dict in our names and our order of channels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from parcnet_train.conversion.layouts import LAST, Layout


@dataclass(frozen=True)
class Entry:
    """One tensor of a published state dict, and its name there."""

    value: Tensor
    published: str


def translate(published: Mapping[str, Tensor], layout: Layout) -> dict[str, Entry]:
    """Renames the entries of a published state dict to those of `Model`.

    Args:
        published: bare state dict.
        layout: of its names and of its first convolution.

    Returns:
        Entries by our names; what the layout does not know keeps its name.
    """
    entries: dict[str, Entry] = {}
    for key, value in published.items():
        if key.startswith(layout.aliases):
            continue
        name = rename(key, layout)
        # A second entry of one name gets one that no network has, and is found to be too many.
        entries[f"{key}, again" if name in entries else name] = Entry(value, key)
    entries = join_attention(number_last_norms(entries))
    stem = entries.get(layout.bgr_stem or "")
    if stem is not None and stem.value.dim() == 4:
        entries[layout.bgr_stem or ""] = Entry(stem.value.flip(1), stem.published)
    return entries


def rename(key: str, layout: Layout) -> str:
    """Our name of a published entry."""
    for pattern, replacement in layout.renames:
        key = re.sub(pattern, replacement, key)
    return key


def number_last_norms(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Numbers the norm behind the blocks of a stage, which is the last of our blocks."""
    depths: dict[str, int] = {}
    for name in entries:
        if found := re.match(r"(.+\.blocks)\.(\d+)\.", name):
            depths[found[1]] = max(depths.get(found[1], 0), int(found[2]) + 1)
    numbered = {}
    for name, entry in entries.items():
        blocks = name.split(LAST)[0] + ".blocks"
        if LAST in name and blocks in depths:
            name = name.replace(LAST, f".blocks.{depths[blocks]}.")
        numbered[name] = entry
    return numbered


def join_attention(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Stacks query, key and value, where they are three layers, to our one."""
    joined = dict(entries)
    for name in entries:
        if found := re.fullmatch(r"(.+\.qkv)\.query\.(weight|bias)", name):
            parts = [f"{found[1]}.{part}.{found[2]}" for part in ("query", "key", "value")]
            if all(part in joined for part in parts):
                three = [joined.pop(part) for part in parts]
                joined[f"{found[1]}.{found[2]}"] = Entry(
                    torch.cat([entry.value for entry in three]), three[0].published
                )
    return joined

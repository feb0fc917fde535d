"""Translation of a published state dict to our names and to RGB."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from parcnet_train.conversion.layouts import LAST, Layout


@dataclass(frozen=True)
class Entry:
    """A tensor of a published state dict, and its published name."""

    value: Tensor
    published: str


def translate(published: Mapping[str, Tensor], layout: Layout) -> dict[str, Entry]:
    """Translate a published state dict to the entries of `Model`.

    Args:
        published: Published state dict.
        layout: Layout of the state dict.

    Returns:
        Entries by our names; an entry that the layout does not know keeps its name.
    """
    entries: dict[str, Entry] = {}
    for key, value in published.items():
        if key.startswith(layout.aliases):
            continue
        name = rename(key, layout)
        if name.rpartition(".")[2] in layout.per_channel and value.dim() == 1:
            value = value[:, None, None]
        # A second entry of the same name gets a name that no network has, so that it is reported as
        # unexpected.
        entries[f"{key}, again" if name in entries else name] = Entry(value, key)
    entries = split_class_rows(join_attention(number_last_norms(entries)), layout)
    stem = entries.get(layout.bgr_stem or "")
    if stem is not None and stem.value.dim() == 4:
        entries[layout.bgr_stem or ""] = Entry(stem.value.flip(1), stem.published)
    return entries


def rename(key: str, layout: Layout) -> str:
    """Return our name of a published entry."""
    for pattern, replacement in layout.renames:
        key = re.sub(pattern, replacement, key)
    return key


def number_last_norms(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Number the norm after the blocks of a stage, which is the last one of our blocks."""
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
    """Stack query, key and value into our one layer if they are three layers."""
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


def split_class_rows(entries: Mapping[str, Entry], layout: Layout) -> dict[str, Entry]:
    """Split the position embedding of the class token from those of the other tokens."""
    split = dict(entries)
    for name, first in layout.class_rows:
        whole = split.get(name)
        if whole is not None and whole.value.dim() == 3 and whole.value.shape[1] > 1:
            split[first] = Entry(whole.value[:, :1], whole.published)
            split[name] = Entry(whole.value[:, 1:], whole.published)
    return split

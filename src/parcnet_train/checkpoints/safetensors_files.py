"""Reading of `.safetensors` files: single ones, and those that are split into shards."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from parcnet_train.errors import CheckpointError, first_line, listed, reason_of


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a `.safetensors` file onto the CPU.

    Raises:
        CheckpointError: If it cannot be read.
    """
    try:
        return load_file(path)
    except Exception as error:  # the classes of its errors differ between versions
        reason = first_line(error)
        raise CheckpointError(f"{path} cannot be read as safetensors: {reason}") from error


def read_sharded(index: Path) -> dict[str, Tensor]:
    """Read the shards that an index names onto the CPU.

    Args:
        index: JSON file whose `weight_map` gives the shard of every entry. The shards are files in
            its folder.

    Raises:
        CheckpointError: If the index or a shard cannot be read, a shard is missing or in another
            folder, or an entry is not in its shard.
    """
    shard_of = read_index(index)
    shards = sorted(set(shard_of.values()))
    # Any path but a plain name could lead to a file that the publisher does not own.
    if outside := [name for name in shards if name in (".", "..", "") or name != Path(name).name]:
        raise CheckpointError(
            f"{index}: the index names shards in other folders: {listed(outside)}; expected "
            "names of files in its own folder"
        )
    try:
        there = {file.name for file in index.parent.iterdir()}
    except OSError as error:
        raise CheckpointError(f"{index.parent} cannot be read: {reason_of(error)}") from error
    if missing := [name for name in shards if name not in there]:
        raise CheckpointError(
            f"{index}: {len(missing)} of {len(shards)} shards are missing: {listed(missing)}. "
            "Fix: copy them into the folder of the index"
        )
    contents = {name: read_safetensors(index.parent / name) for name in shards}
    if lacking := [name for name, shard in shard_of.items() if name not in contents[shard]]:
        raise CheckpointError(
            f"{index}: {len(lacking)} of {len(shard_of)} entries are not in the shard that the "
            f"index names: {listed(lacking)}"
        )
    return {name: contents[shard][name] for name, shard in shard_of.items()}


def read_index(path: Path) -> dict[str, str]:
    """Read an index: the name of the shard of every entry.

    Raises:
        CheckpointError: If it is not an index.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason_of(error)}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {first_line(error)}") from error
    shard_of = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shard_of, dict) or not all(isinstance(v, str) for v in shard_of.values()):
        raise CheckpointError(
            f"{path}: the index has no weight_map of names of entries to names of files"
        )
    return shard_of

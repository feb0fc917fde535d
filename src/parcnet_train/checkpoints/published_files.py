"""Reading of published state dicts, without executing anything in the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parcnet_train.checkpoints.finite import refuse_non_finite
from parcnet_train.checkpoints.reading import KEYS
from parcnet_train.checkpoints.safe_loading import load_safely
from parcnet_train.checkpoints.safetensors_files import read_safetensors, read_sharded
from parcnet_train.errors import CheckpointError, reason_of, shortened
from parcnet_train.runs.releases import INDEX_SUFFIX, weights_in

State = Mapping[str, Tensor]

# Keys under which training checkpoints keep their weights, also inside each other, the averaged
# ones first. They are those of the authors, ml-cvnets, timm, ConvNeXt, BasicSR, DeepSpeed and many
# training scripts.
WRAPPERS = (
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "params_ema",
    "ema",
    "model_state_dict",
    "state_dict",
    "model_state",
    "model",
    "net",
    "params",
    "weights",
    "module",
)
DEEPEST = 4  # wrappers inside each other that are read

# What training code writes before the names of a network: DataParallel and AveragedModel of
# PyTorch, torch.compile, and the attributes of Lightning modules and other classes around it.
AVERAGED = "model_ema."
PREFIXES = ("module.", "_orig_mod.", AVERAGED, "model.", "backbone.", "net.", "network.")
BOOKKEEPING = ("n_averaged",)  # last parts of names that belong to no network: of AveragedModel


class OwnCheckpointError(CheckpointError):
    """The file is a checkpoint of this package."""


@dataclass(frozen=True)
class Published:
    """A published state dict.

    Attributes:
        state: Entries by the names of the network.
        entry: Keys of the training checkpoint that it was taken from, such as `ema.module`, or
            None.
        prefix: Prefix that its names had in the file.
    """

    state: dict[str, Tensor]
    entry: str | None = None
    prefix: str = ""

    def __str__(self) -> str:
        """Return what was taken from the file; empty if it was all of it."""
        parts = [f"taken from {self.entry} of the training checkpoint"] if self.entry else []
        parts += [f"prefix {self.prefix} removed from the names"] if self.prefix else []
        return ", ".join(parts)


def read_published(path: Path, matching: Callable[[State], int]) -> Published:
    """Read published weights onto the CPU.

    Args:
        path: A `.safetensors` file, the index of several, a folder that has one of them under the
            name `model`, or a file written by `torch.save` with a state dict or a training
            checkpoint that has one under a key of `WRAPPERS`.
        matching: Function that counts the entries of a state dict which the network has. A prefix
            of `PREFIXES` is removed if all names have it and more entries match without it.

    Raises:
        OwnCheckpointError: If the file is a checkpoint of this package.
        CheckpointError: If it is missing or unreadable, contains anything but tensors, or has
            values that are not finite.
    """
    content = read_file(path)
    if isinstance(content, Mapping) and all(key in content for key in KEYS):
        raise OwnCheckpointError(f"{path} already is a checkpoint of parcnet_train")
    state, keys = unwrap(content)
    state = plain_tensors(state, path)
    refuse_non_finite(state, str(path))
    state, prefix = without_prefix(state, matching)
    return Published(state, ".".join(keys) or None, prefix)


def read_file(path: Path) -> Any:
    """Return the content of a file, or of the file that has the weights of a folder."""
    file = (weights_in(path) or path) if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(
            f"{path} {'has no model.safetensors' if path.is_dir() else 'does not exist'}; expected "
            "a file of published weights"
        )
    if file.name.endswith(INDEX_SUFFIX):
        return read_sharded(file)
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    try:
        return load_safely(file)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {reason_of(error)}") from error
    except CheckpointError as error:
        raise CheckpointError(
            f"{file} cannot be read: {error}. Fix: if you trust the file, save only its state "
            "dict: torch.save(model.state_dict(), PATH)"
        ) from error


def unwrap(content: Any, depth: int = DEEPEST) -> tuple[Any, list[str]]:
    """Return the weights of a training checkpoint, preferably averaged ones, and their keys."""
    if isinstance(content, Mapping) and depth:
        for key in WRAPPERS:
            inner, keys = unwrap(content.get(key), depth - 1)
            if isinstance(inner, Mapping) and any(isinstance(v, Tensor) for v in inner.values()):
                return inner, [key, *keys]
    return content, []


def plain_tensors(state: Any, path: Path) -> dict[str, Tensor]:
    """Return a state dict without bookkeeping.

    Raises:
        CheckpointError: If it is no state dict of plain tensors.
    """
    there = f"at the top level or under one of the keys {', '.join(WRAPPERS)}"
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(
            f"{path}: the content is {describe(state)}; expected a state dict, {there}"
        )
    found = {}
    for key, value in state.items():
        name = shortened(repr(key))
        if isinstance(key, str) and key.rpartition(".")[2] in BOOKKEEPING:
            continue
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: the entry {name} is {describe(value)}; expected names and tensors, "
                f"{there}"
            )
        if not is_plain(value):
            raise CheckpointError(
                f"{path}: the entry {name} is {describe_tensor(value)}; expected dense tensors of "
                "real numbers"
            )
        found[key] = value
    return found


def without_prefix(
    state: dict[str, Tensor], matching: Callable[[State], int]
) -> tuple[dict[str, Tensor], str]:
    """Return the entries by the names of the network, and the prefix that the names had.

    A network may have names that begin with a prefix itself, so that removing it is only tried.
    """
    averaged = {name: value for name, value in state.items() if name.startswith(AVERAGED)}
    tried = [*stripped(averaged), *stripped(state)]
    if len(tried) == 1:
        return state, ""
    counts = [matching(each) for each, _ in tried]
    return tried[counts.index(max(counts))] if max(counts) else (state, "")


def stripped(state: dict[str, Tensor]) -> Iterator[tuple[dict[str, Tensor], str]]:
    """Yield a state dict as it is, and without the prefixes that all of its names have."""
    removed = ""
    while state:
        yield state, removed
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None)
        if prefix is None:
            return
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        removed += prefix


def is_plain(value: Tensor) -> bool:
    """Return whether a tensor is dense, real, not quantized or packed, not on the meta device."""
    dense = value.layout == torch.strided and not value.is_meta
    packed = any(kind in str(value.dtype) for kind in ("bits", "float4"))
    return dense and not packed and not value.is_complex() and not value.is_quantized


def describe_tensor(value: Tensor) -> str:
    """Describe layout, dtype and device of a tensor."""
    layout, dtype = (str(part).removeprefix("torch.") for part in (value.layout, value.dtype))
    return f"a tensor of {layout} {dtype} on the {value.device.type} device"


def describe(value: Any) -> str:
    """Describe the type of a value."""
    return "empty" if value is None or value == {} else f"of type {type(value).__name__}"

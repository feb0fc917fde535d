"""Reading of published state dicts, without executing anything in the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
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
# The parts of a network may have been wrapped too, one by one.
INNER = ("module", "_orig_mod")
# Entries that are tried as the network: averaged ones, all, and those of one attribute.
SELECTIONS = (AVERAGED, "", *(prefix for prefix in PREFIXES if prefix != AVERAGED))
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
        inner: Parts of `INNER` that were removed within its names.
        left_out: Number of entries of the file's state dict that belong to something else, such as
            the loss.
    """

    state: dict[str, Tensor]
    entry: str | None = None
    prefix: str = ""
    inner: tuple[str, ...] = ()
    left_out: int = 0

    def __str__(self) -> str:
        """Return what was taken from the file; empty if it was all of it."""
        parts = [f"taken from {self.entry} of the training checkpoint"] if self.entry else []
        parts += [f"prefix {self.prefix} removed from the names"] if self.prefix else []
        parts += [f"{' and '.join(self.inner)} removed within the names"] if self.inner else []
        count = self.left_out + len(self.state)
        parts += [f"{self.left_out} of {count} entries left out"] if self.left_out else []
        return ", ".join(parts)


def read_published(path: Path, matching: Callable[[State], int]) -> Published:
    """Read published weights onto the CPU.

    Args:
        path: A `.safetensors` file, the index of several, a folder that has one of them under the
            name `model`, or a file written by `torch.save` with a state dict or a training
            checkpoint that has one under a key of `WRAPPERS`.
        matching: Function that counts the entries of a state dict which the network has. Of all
            state dicts in the file and the names that `forms` yields, those are taken that match
            most; averaged ones if several do.

    Raises:
        OwnCheckpointError: If the file is a checkpoint of this package.
        CheckpointError: If it is missing or unreadable, contains anything but tensors, or has
            values that are not finite where they are taken.
    """
    content = read_file(path)
    if isinstance(content, Mapping) and all(key in content for key in KEYS):
        raise OwnCheckpointError(f"{path} already is a checkpoint of parcnet_train")
    found = published_in(content, path)
    tried = [form for each in found for form in forms(each)]
    best = found[0]
    if len(tried) > 1:
        counts = [matching(each.state) for each in tried]
        best = tried[counts.index(max(counts))] if max(counts) else best
    refuse_non_finite(best.state, str(path))
    return best


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


def published_in(content: Any, path: Path) -> list[Published]:
    """Return the state dicts in a file, averaged ones first; there is at least one.

    Raises:
        CheckpointError: If there is none of plain tensors.
    """
    found, refused = [], []
    for state, keys in list(unwrapped(content, set())) or [(content, ())]:
        try:
            found.append(Published(plain_tensors(state, path), ".".join(keys) or None))
        except CheckpointError as error:
            refused.append(error)
    if not found:
        raise refused[0]
    return found


def unwrapped(
    content: Any, seen: set[int], keys: tuple[str, ...] = ()
) -> Iterator[tuple[Mapping[Any, Any], tuple[str, ...]]]:
    """Yield every mapping with tensors in a training checkpoint, and its keys.

    Args:
        content: Content of the file, or of an entry.
        seen: Mappings that were visited; a file may contain itself.
        keys: Keys of the entry.
    """
    if not isinstance(content, Mapping) or id(content) in seen:
        return
    seen.add(id(content))
    if len(keys) < DEEPEST:
        for key in WRAPPERS:
            yield from unwrapped(content.get(key), seen, (*keys, key))
    if any(isinstance(value, Tensor) for value in content.values()):
        yield content, keys


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


def forms(found: Published) -> Iterator[Published]:
    """Yield a state dict under all names that its network may have.

    The names of a network may themselves begin with a prefix or contain `module`. The names of the
    file are therefore among those that are tried.
    """
    for start in SELECTIONS:
        state = {name: value for name, value in found.state.items() if name.startswith(start)}
        if not state or (start and len(state) == len(found.state)):
            continue
        chosen = replace(found, state=state, left_out=len(found.state) - len(state))
        yield from stripped(chosen)
        if (clean := without_inner(chosen)) is not None:
            yield from stripped(clean)


def without_inner(found: Published) -> Published | None:
    """Return a state dict without the parts of `INNER` in its names; None if that is the same."""
    split = [name.split(".") for name in found.state]
    inner = tuple(part for part in INNER if any(part in parts[1:] for parts in split))
    names = [".".join(part for part in parts if part not in inner) for parts in split]
    if not inner or len(set(names)) < len(names):
        return None
    state = dict(zip(names, found.state.values(), strict=True))
    return replace(found, state=state, inner=inner)


def stripped(found: Published) -> Iterator[Published]:
    """Yield a state dict as it is, and without the prefixes that all of its names have."""
    while True:
        yield found
        names = list(found.state)
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in names)), None)
        if prefix is None:
            return
        state = {name.removeprefix(prefix): value for name, value in found.state.items()}
        found = replace(found, state=state, prefix=found.prefix + prefix)


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

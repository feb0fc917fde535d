"""Reading of published state dicts, without executing anything in the files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parcnet_train.checkpoints.reading import KEYS
from parcnet_train.errors import CheckpointError, first_line, reason_of

# Keys under which training checkpoints of the authors, ml-cvnets, timm and ConvNeXt keep their
# weights, the averaged ones first.
NESTED = (
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "model_state_dict",
    "state_dict",
    "model",
)


def read_published(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Read a published file onto the CPU.

    Args:
        path: Path of a `.safetensors` file, or of a file written by `torch.save` with a state dict
            or a training checkpoint that has one under a key of `NESTED`.

    Returns:
        The state dict without the prefix `module.`, and the key of the training checkpoint that it
        was taken from, or None.

    Raises:
        CheckpointError: If the file is missing or unreadable, or contains anything but tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; expected a file of published weights")
    content = read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    if isinstance(content, Mapping) and all(key in content for key in KEYS):
        raise CheckpointError(f"{path} already is a checkpoint of parcnet_train")
    state, taken = unwrap(content)
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(
            f"{path}: the content is {describe(state)}; expected a state dict, at the top level or "
            f"under one of the keys {', '.join(NESTED)}"
        )
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: the entry {key!r} is {describe(value)}; expected names and tensors, at "
                f"the top level or under one of the keys {', '.join(NESTED)}"
            )
        if not is_plain(value):
            raise CheckpointError(
                f"{path}: the entry {key!r} is {describe_tensor(value)}; expected dense tensors of "
                "real numbers"
            )
    prefix = "module." if all(key.startswith("module.") for key in state) else ""
    return {key.removeprefix(prefix): value for key, value in state.items()}, taken


def read_torch(path: Path) -> Any:
    """Read a file written by `torch.save`."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason_of(error)}") from error
    except Exception as error:  # on other files, the unpickler raises nearly any exception
        raise CheckpointError(
            f"{path} cannot be read: it was not written by torch.save, or it contains more than "
            "tensors and plain values, and nothing in a file is executed. Fix: if you trust the "
            "file, save only its state dict: torch.save(model.state_dict(), PATH)"
        ) from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a `.safetensors` file."""
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            f"{path}: reading the file needs safetensors, which is not installed. Fix: pip install "
            "safetensors"
        ) from error
    try:
        return load_file(path)
    except Exception as error:  # the classes of its errors differ between versions
        reason = first_line(error)
        raise CheckpointError(f"{path} cannot be read as safetensors: {reason}") from error


def unwrap(content: Any) -> tuple[Any, str | None]:
    """Return the weights of a training checkpoint, preferably the averaged ones, and their key."""
    if isinstance(content, Mapping):
        for key in NESTED:
            if isinstance(content.get(key), Mapping) and content[key]:
                return content[key], key
    return content, None


def is_plain(value: Tensor) -> bool:
    """Return whether a tensor is dense, real, not quantized and not on the meta device."""
    dense = value.layout == torch.strided and not value.is_meta
    return dense and not value.is_complex() and not value.is_quantized


def describe_tensor(value: Tensor) -> str:
    """Describe layout, dtype and device of a tensor."""
    layout, dtype = (str(part).removeprefix("torch.") for part in (value.layout, value.dtype))
    return f"a tensor of {layout} {dtype} on the {value.device.type} device"


def describe(value: Any) -> str:
    """Describe the type of a value."""
    return "empty" if value is None or value == {} else f"of type {type(value).__name__}"

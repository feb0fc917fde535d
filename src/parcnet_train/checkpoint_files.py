"""Checkpoint files: reading one without executing anything that is in it.

Below everything that composes or builds: a configuration may be composed from a checkpoint.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from parcnet_train.errors import CheckpointError, reason_of
from parcnet_train.rules import locate

KEYS = ("state_dict", "config", "choices", "class_names", "epoch")


def read_checkpoint(path: Path, key: str = "ckpt") -> dict[str, Any]:
    """Reads a checkpoint of this package onto the CPU, executing nothing that is in it.

    Args:
        path: File to read.
        key: Key of the configuration that names the file, for the message.

    Raises:
        CheckpointError: if the file is not a checkpoint of this package.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(
            f"{key}={path} cannot be read: {reason_of(error)}; allowed is a checkpoint file, "
            "such as RUN/checkpoints/best.ckpt"
        ) from error
    except Exception as error:  # bytes of something else make the unpickler raise nearly anything
        raise CheckpointError(f"{key}={path} cannot be read as a checkpoint of torch") from error
    lacking = [name for name in KEYS if not isinstance(checkpoint, dict) or name not in checkpoint]
    if lacking:
        raise CheckpointError(
            f"{key}={path} is not a checkpoint of parcnet_train: it has no {', '.join(lacking)}; "
            "published weights become one by scripts/convert_weights.py"
        )
    return checkpoint


def named_targets(node: Any) -> Iterator[str]:
    """Everything in a part of a checkpoint's configuration that building it would call."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield str(value)
            else:
                yield from named_targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from named_targets(value)
    elif isinstance(node, str) and "${" in node:
        yield node  # ours hold values; an interpolation can make anything, targets too


def is_class_of(target: str, packages: Sequence[str]) -> bool:
    """Whether a name is that of a class which one of the packages defines itself.

    A module of theirs also leads to what it imports, such as `parcnet_train.build.torch`.
    """
    if target.split(".")[0] not in packages:
        return False
    found = locate({"_target_": target})
    return inspect.isclass(found) and found.__module__.split(".")[0] in packages

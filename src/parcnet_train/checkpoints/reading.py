"""Reading of checkpoint files, without executing anything in them.

This module imports nothing that composes or builds, since a configuration may be composed from a
checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parcnet_train.checkpoints.releases import read_release
from parcnet_train.checkpoints.renamed import renamed
from parcnet_train.checkpoints.safe_loading import load_safely
from parcnet_train.errors import CheckpointError, reason_of
from parcnet_train.runs.releases import CONFIG, INDEX, WEIGHTS, is_weights

KEYS = ("state_dict", "config", "choices", "class_names", "epoch")


def read_checkpoint(path: Path, key: str = "ckpt") -> dict[str, Any]:
    """Read a checkpoint of this package onto the CPU, without executing anything in it.

    Args:
        path: File to read; the weights of a release are read with the `config.json` beside them.
        key: Config key that names the file, for the message.

    Raises:
        CheckpointError: If the file is not a checkpoint of this package.
    """
    if is_weights(path):
        if path.name not in (WEIGHTS, INDEX):
            raise CheckpointError(
                f"{key}={path}: action=release writes {WEIGHTS} and {CONFIG}; expected a folder "
                "with both. Fix: start a library's network from these weights with "
                f"backbone.pretrained={path}, or convert them with scripts/convert_weights.py"
            )
        return read_release(path, key)
    try:
        checkpoint = load_safely(path)
    except OSError as error:
        raise CheckpointError(
            f"{key}={path}: the file cannot be read: {reason_of(error)}; expected a checkpoint "
            "file, such as RUN/checkpoints/best.ckpt"
        ) from error
    except CheckpointError as error:
        raise CheckpointError(
            f"{key}={path}: {error}. Fix: use a checkpoint of parcnet_train, such as "
            "RUN/checkpoints/best.ckpt, or convert published weights with "
            "scripts/convert_weights.py"
        ) from error
    lacking = [name for name in KEYS if not isinstance(checkpoint, dict) or name not in checkpoint]
    if lacking:
        raise CheckpointError(
            f"{key}={path}: the file is not a checkpoint of parcnet_train: it has no "
            f"{', '.join(lacking)}. Fix: convert published weights with scripts/convert_weights.py"
        )
    return {**checkpoint, "config": renamed(checkpoint["config"])}

"""Reading checkpoints: plain values only, and the model that one holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parcnet_train.build import build_model
from parcnet_train.errors import CheckpointError
from parcnet_train.model import Model

KEYS = ("state_dict", "config", "choices", "class_names", "epoch")
PREFIX = "model."  # of the network's entries among those of the Lightning module


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint of this package onto the CPU, executing nothing that is in it.

    Raises:
        CheckpointError: where the file is not one.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"ckpt={path} cannot be read: {error.strerror}") from error
    except Exception as error:  # bytes of something else make the unpickler raise nearly anything
        raise CheckpointError(f"ckpt={path} cannot be read as a checkpoint of torch") from error
    lacking = [key for key in KEYS if not isinstance(checkpoint, dict) or key not in checkpoint]
    if lacking:
        raise CheckpointError(
            f"ckpt={path} is not a checkpoint of parcnet_train: it has no {', '.join(lacking)}"
        )
    return checkpoint


def model_state(checkpoint: Mapping[str, Any], ema: bool = True) -> dict[str, Tensor]:
    """The network's state dict; EMA weights where the run kept them, unless `ema` is false."""
    # Lightning's EMA callback files its average as state_dict, and the trained weights beside it.
    key = "state_dict" if ema or "current_model_state" not in checkpoint else "current_model_state"
    return {
        name.removeprefix(PREFIX): value
        for name, value in checkpoint[key].items()
        if name.startswith(PREFIX)
    }


def check_same_model(
    checkpoint: Mapping[str, Any], model: Model, choices: Mapping[str, str], path: Path
) -> None:
    """Compares names and shapes of the weights.

    Args:
        checkpoint: as read.
        model: of this run.
        choices: this run's chosen configs, by group.
        path: of the checkpoint, for the message.

    Raises:
        CheckpointError: where they differ; names both architectures.
    """
    theirs = {name: value.shape for name, value in model_state(checkpoint).items()}
    ours = {name: value.shape for name, value in model.state_dict().items()}
    if theirs == ours:
        return
    groups = ("task", "backbone", "head", "data")
    held = checkpoint["choices"]
    differing = [group for group in groups if held[group] != choices[group]]
    reason = next(iter(sorted(theirs.items() ^ ours.items())))[0]
    way_out = " ".join(f"{group}={held[group]}" for group in differing if held[group])
    raise CheckpointError(
        f"ckpt={path} holds {' '.join(f'{group}={held[group]}' for group in groups)}, this run has "
        f"{' '.join(f'{group}={choices[group]}' for group in groups)}; their weights differ, first "
        f"at {reason}; {f'add {way_out}' if way_out else 'use the values it was trained with'}"
    )


def check_same_classes(
    checkpoint: Mapping[str, Any], class_names: Sequence[str], path: Path
) -> None:
    """Compares the classes: a logit must mean what it meant in training.

    Raises:
        CheckpointError: where they differ.
    """
    held = checkpoint["class_names"]
    if held == list(class_names):
        return
    if len(held) != len(class_names):
        difference = f"has {len(held)} classes, the data set has {len(class_names)}"
    else:
        differing = (pair for pair in zip(held, class_names, strict=True) if pair[0] != pair[1])
        difference = "calls a class {!r} that the data set calls {!r}".format(*next(differing))
    raise CheckpointError(
        f"ckpt={path} {difference}; give it the data it was trained for: data, data.root"
    )


def load(path: str | Path, ema: bool = True, packages: Sequence[str] = ("parcnet_train",)) -> Model:
    """Gives the model of a checkpoint back, ready to be called on images.

    Args:
        path: a checkpoint file of this package.
        ema: EMA weights where the run kept them; false takes the weights that were trained.
        packages: whose classes a checkpoint may name as its backbone and head; add your own.

    Returns:
        The model in eval mode on the CPU: `(B, 3, H, W)` RGB images, uint8 or float in [0, 1], to
        what its head returns (a classifier: logits `(B, classes)`).

    Raises:
        CheckpointError: where the file cannot be read, or names a class of another package.
    """
    checkpoint = read_checkpoint(Path(path))
    for part in ("backbone", "head"):
        target = str(checkpoint["config"][part]["_target_"])
        if target.split(".")[0] not in packages:
            raise CheckpointError(
                f"ckpt={path}: its {part} is {target}; allowed are classes of "
                f"{', '.join(packages)}. Where you trust the file: load(..., packages=[...])"
            )
    model = build_model(checkpoint["config"], len(checkpoint["class_names"]))
    model.load_state_dict(model_state(checkpoint, ema))
    return model.eval()

"""What a checkpoint holds: its weights, and whether they fit a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.checkpoints.state_dict_diff import weight_differences
from parcnet_train.errors import CheckpointError
from parcnet_train.files import whole_file
from parcnet_train.models.base import Backbone
from parcnet_train.models.model import Model
from parcnet_train.optim.finetuning import DEFAULTS
from parcnet_train.runs.directories import checkpoint_in

PREFIX = "model."  # of the network's entries among those of the Lightning module
BACKBONE = "backbone."  # of the backbone's entries among those of the network
PRETRAINED = "pretrained"  # key beside a backbone's arguments: a checkpoint to start it from
NAMING = ("task", "backbone", "head", "data")  # groups whose choices name what was trained


def write_checkpoint(target: Path, checkpoint: Mapping[str, Any]) -> None:
    """Writes a checkpoint, whole or not at all.

    Raises:
        CheckpointError: where the disk does not take it.
    """
    try:
        with whole_file(target) as file:
            torch.save(dict(checkpoint), file)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{target} cannot be written: {error}") from error


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
    checkpoint: Mapping[str, Any], model: Model, config: Mapping[str, Any], path: Path
) -> None:
    """Compares names and shapes of the weights.

    Args:
        checkpoint: as read.
        model: of this run.
        config: of this run.
        path: of the checkpoint, for the message.

    Raises:
        CheckpointError: where they differ; names both architectures.
    """
    theirs = {name: value.shape for name, value in model_state(checkpoint).items()}
    ours = {name: value.shape for name, value in model.state_dict().items()}
    if theirs == ours:
        return
    held, choices = checkpoint["choices"], config["choices"]
    # Other data has other classes, and those were compared before.
    differing = [group for group in NAMING if group != "data" and held[group] != choices[group]]
    reason = next(iter(sorted(theirs.items() ^ ours.items())))[0]
    way_out = " ".join(f"{group}={held[group]}" for group in differing if held[group])
    way_out = way_out or " ".join(other_values(checkpoint, config))
    raise CheckpointError(
        f"ckpt={path} holds {in_words(held)}, this run has {in_words(choices)}; their weights "
        f"differ, first at {reason}; "
        f"{f'add {way_out}' if way_out else 'use the values it was trained with'}"
    )


def other_values(
    checkpoint: Mapping[str, Any],
    config: Mapping[str, Any],
    parts: Sequence[str] = ("backbone", "head"),
) -> list[str]:
    """Values of a checkpoint's network that a run has otherwise, as one types them.

    Keys that one of them does not have are left out: they came or went with a version.
    """
    found = []
    for part in parts:
        for key, value in checkpoint["config"][part].items():
            is_other = value != config[part].get(key, value)
            if is_other and key not in ("_target_", PRETRAINED):
                word = "null" if value is None else str(value).replace(" ", "")
                found.append(f"{part}.{key}={word}")
    return found


def in_words(choices: Mapping[str, str | None]) -> str:
    """The chosen configs that name a network, as one types them."""
    return " ".join(f"{group}={choices[group]}" for group in NAMING if choices[group])


def check_same_classes(
    checkpoint: Mapping[str, Any], class_names: Sequence[str], path: Path
) -> None:
    """Compares the classes: a logit must mean what it meant in training.

    Of a converted checkpoint that names no classes, only their number.

    Raises:
        CheckpointError: where they differ.
    """
    held = checkpoint["class_names"]
    named = checkpoint.get("names_classes", True)
    if held == list(class_names) or (not named and len(held) == len(class_names)):
        return
    if len(held) != len(class_names):
        difference = f"has {len(held)} classes, the data set has {len(class_names)}"
    else:
        differing = (pair for pair in zip(held, class_names, strict=True) if pair[0] != pair[1])
        difference = "calls a class {!r} that the data set calls {!r}".format(*next(differing))
    raise CheckpointError(
        f"ckpt={path} {difference}; give it the data it was trained for: data, data.root; to train "
        f"on other classes, start from its backbone: backbone.pretrained={path}"
    )


def check_resumable(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Refuses to go on from weights alone.

    Raises:
        CheckpointError: where there is no state of an optimizer, as in converted checkpoints.
    """
    if "optimizer_states" not in checkpoint:
        raise CheckpointError(
            f"ckpt={path} holds weights without the state of a training, so there is nothing to go "
            f"on from; start a new run from them with backbone.pretrained={path}, or evaluate them "
            "with action=test"
        )


def check_same_parameters(
    checkpoint: Mapping[str, Any], config: Mapping[str, Any], path: Path
) -> None:
    """Compares what is trained: the state of an optimizer is that of its parameters.

    Raises:
        CheckpointError: where another part of the network was frozen, or in other groups.
    """
    now = config["recipe"]["finetuning"]
    before = {**DEFAULTS, **checkpoint["config"]["recipe"].get("finetuning", {})}
    if before != now:
        way_out = [f"recipe.finetuning.{k}={v}" for k, v in before.items() if v != now[k]]
        raise CheckpointError(
            f"ckpt={path} was trained with {' '.join(way_out).lower()}, this run has another value "
            "that its optimizer's state does not fit; add what it was trained with, or start a new "
            f"run from its backbone: backbone.pretrained={path}"
        )


def pretrained_state(
    path: str, backbone: Backbone, config: Mapping[str, Any]
) -> tuple[dict[str, Tensor], list[str]]:
    """The weights that `backbone.pretrained` starts a backbone from; EMA where the file has it.

    Args:
        path: Checkpoint of this package, trained or converted, of any head and any classes; in a
            run directory its best one.
        backbone: of this run.
        config: of this run.

    Returns:
        The state dict, and the values of the file's backbone that this run has otherwise.

    Raises:
        CheckpointError: where the file is none, or its backbone is another; names every entry that
            differs.
    """
    checkpoint = read_checkpoint(checkpoint_in(path), key="backbone.pretrained")
    state = {
        name.removeprefix(BACKBONE): value
        for name, value in model_state(checkpoint).items()
        if name.startswith(BACKBONE)
    }
    others = other_values(checkpoint, config, ["backbone"])
    if lines := weight_differences(state, backbone.state_dict()):
        held, choices = checkpoint["choices"], config["choices"]
        is_same = held["backbone"] == choices["backbone"]
        way_out = f", it has {' '.join(others)}" if is_same and others else ""
        first = (
            f"backbone.pretrained={path} holds {in_words(held)}, this run has {in_words(choices)}; "
            f"the weights of their backbones differ{way_out}"
        )
        raise CheckpointError("\n".join([first, *lines]))
    return state, others

"""Contents of checkpoints: their weights, and checks whether they fit a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parcnet_train.checkpoints.finite import refuse_non_finite
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.checkpoints.state_dict_diff import weight_differences
from parcnet_train.errors import CheckpointError
from parcnet_train.files import whole_file
from parcnet_train.models.backbones.adapt import adapted_weights
from parcnet_train.models.backbones.library import NETWORK, LibraryNetwork
from parcnet_train.models.base import Backbone
from parcnet_train.models.model import Model
from parcnet_train.optim.finetuning import DEFAULTS
from parcnet_train.runs.directories import checkpoint_in

PREFIX = "model."  # prefix of the network's entries in the Lightning module's state dict
BACKBONE = "backbone."  # prefix of the backbone's entries in the network's state dict
WEIGHTS = "weights"  # key of a library's network: weights of the library to initialize it from
PRETRAINED = "pretrained"  # key beside a backbone's arguments: checkpoint to initialize it from
NAMING = ("task", "backbone", "head", "data")  # config groups whose choices identify a network


@dataclass(frozen=True)
class NetworkSpec:
    """Network of a run, as its configuration names it.

    Attributes:
        choices: Name of the chosen config of every group; those of `NAMING` are read.
        backbone: Arguments of the backbone.
        head: Arguments of the head.
    """

    choices: Mapping[str, str | None]
    backbone: Mapping[str, Any]
    head: Mapping[str, Any]


def write_checkpoint(target: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically.

    Raises:
        CheckpointError: If it cannot be written.
    """
    try:
        with whole_file(target) as file:
            torch.save(dict(checkpoint), file)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{target} cannot be written: {error}") from error


def model_state(checkpoint: Mapping[str, Any], ema: bool = True) -> dict[str, Tensor]:
    """Return the network's state dict: the EMA weights if the run has them and `ema` is true."""
    # Lightning's EMA callback stores its average as state_dict, and the trained weights separately.
    key = "state_dict" if ema or "current_model_state" not in checkpoint else "current_model_state"
    return {
        name.removeprefix(PREFIX): value
        for name, value in checkpoint[key].items()
        if name.startswith(PREFIX)
    }


def check_same_model(
    checkpoint: Mapping[str, Any], model: Model, spec: NetworkSpec, path: Path
) -> None:
    """Check that a checkpoint's weights have the names and shapes of a model's weights.

    Args:
        checkpoint: Checkpoint as read from its file.
        model: Model of this run.
        spec: The same model, as the configuration names it.
        path: Path of the checkpoint, for the message.

    Raises:
        CheckpointError: If they differ; the message names both architectures.
    """
    theirs = {name: value.shape for name, value in model_state(checkpoint).items()}
    ours = {name: value.shape for name, value in model.state_dict().items()}
    if theirs == ours:
        return
    held, choices = checkpoint["choices"], spec.choices
    # The data decides only the classes, which `check_same_classes` has compared before.
    differing = [group for group in NAMING if group != "data" and held[group] != choices[group]]
    reason = next(iter(sorted(theirs.items() ^ ours.items())))[0]
    way_out = " ".join(f"{group}={held[group]}" for group in differing if held[group])
    parts = {"backbone": spec.backbone, "head": spec.head}
    way_out = way_out or " ".join(other_values(checkpoint, parts))
    raise CheckpointError(
        f"ckpt={path}: the checkpoint has {in_words(held)}, but this run has {in_words(choices)}; "
        f"their weights differ, first at {reason}. "
        f"Fix: {f'add {way_out}' if way_out else 'use the values that it was trained with'}"
    )


def other_values(
    checkpoint: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return the values of a checkpoint's network that differ from a run's, as overrides.

    Keys that only one of them has are left out: another version added or removed them.

    Args:
        checkpoint: Checkpoint as read from its file.
        parts: Arguments of the parts of the run's network, by the key of the part.
    """
    found = []
    for part, ours in parts.items():
        for key, value in checkpoint["config"][part].items():
            is_other = value != ours.get(key, value)
            if is_other and key not in ("_target_", PRETRAINED, WEIGHTS):
                word = "null" if value is None else str(value).replace(" ", "")
                found.append(f"{part}.{key}={word}")
    return found


def in_words(choices: Mapping[str, str | None]) -> str:
    """Return the config choices that identify a network, as they are typed."""
    return " ".join(f"{group}={choices[group]}" for group in NAMING if choices[group])


def check_same_classes(
    checkpoint: Mapping[str, Any], class_names: Sequence[str], path: Path
) -> None:
    """Check that a checkpoint has the classes of the data set, in the same order.

    For a converted checkpoint without class names, only the number of classes is compared; class
    folders that have the numbers as names must be in the same order too.

    Raises:
        CheckpointError: If they differ.
    """
    held = checkpoint["class_names"]
    named = checkpoint.get("names_classes", True)
    is_reordered = set(held) == set(class_names)  # 0, 1, 10, 2, ... as folders are sorted
    if held == list(class_names) or (
        not named and len(held) == len(class_names) and not is_reordered
    ):
        return
    if len(held) != len(class_names):
        difference = f"has {len(held)} classes, but the data set has {len(class_names)}"
    else:
        differing = (pair for pair in zip(held, class_names, strict=True) if pair[0] != pair[1])
        difference = "has a class {!r} that is {!r} in the data set".format(*next(differing))
    is_part = set(class_names) <= {*held, *map(str, range(len(held)))}
    partly = is_part and checkpoint["choices"]["task"] == "classification"
    way_out = "to evaluate it on these class folders: action=test task.evaluated_classes=folders; "
    raise CheckpointError(
        f"ckpt={path}: the checkpoint {difference}. Fix: use the data that it was trained on "
        f"(data, data.root); {way_out * partly}to train on other classes, start from its backbone: "
        f"backbone.pretrained={path}"
    )


def check_resumable(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Check that a checkpoint contains the state of a training.

    Raises:
        CheckpointError: If it has no optimizer state, as a converted checkpoint.
    """
    if "optimizer_states" not in checkpoint:
        raise CheckpointError(
            f"ckpt={path}: the checkpoint contains only weights; expected the state of a training "
            f"to resume. Fix: start a new run from the weights with backbone.pretrained={path}, or "
            "evaluate them with action=test"
        )


def check_same_parameters(
    checkpoint: Mapping[str, Any], finetuning: Mapping[str, Any], path: Path
) -> None:
    """Check that the optimizer state of a checkpoint fits the parameters that this run trains.

    Args:
        checkpoint: Checkpoint as read from its file.
        finetuning: Values of `recipe.finetuning` of this run.
        path: Path of the checkpoint, for the message.

    Raises:
        CheckpointError: If other parameters were frozen, or the parameter groups differ.
    """
    before = {**DEFAULTS, **checkpoint["config"]["recipe"].get("finetuning", {})}
    if before != finetuning:
        way_out = [f"recipe.finetuning.{k}={v}" for k, v in before.items() if v != finetuning[k]]
        raise CheckpointError(
            f"ckpt={path}: the checkpoint was trained with {' '.join(way_out).lower()}; the state "
            "of its optimizer does not fit the values of this run. Fix: add these values, or start "
            f"a new run from its backbone: backbone.pretrained={path}"
        )


def pretrained_state(
    path: str,
    backbone: Backbone,
    choices: Mapping[str, str | None],
    arguments: Mapping[str, Any],
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights that `backbone.pretrained` names; EMA weights if the file has them.

    Args:
        path: Checkpoint of this package, trained or converted, with any head and any classes; run
            directory, whose best checkpoint is used; or release.
        backbone: Backbone of this run.
        choices: Name of the chosen config of every group of this run, for the message.
        arguments: Arguments of the backbone in the configuration of this run.

    Returns:
        The state dict, and the values of the file's backbone that differ from this run's.

    Raises:
        CheckpointError: If the file is not a checkpoint, or its backbone does not fit or has values
            that are not finite; the message names every entry that differs.
    """
    key = "backbone.pretrained"
    checkpoint = read_checkpoint(checkpoint_in(path, key=key), key)
    state = {
        name.removeprefix(BACKBONE): value
        for name, value in model_state(checkpoint).items()
        if name.startswith(BACKBONE)
    }
    refuse_non_finite(state, f"{BACKBONE}{PRETRAINED}={path}")
    own = backbone.state_dict()
    state = {
        name: value
        for name, value in state.items()
        if name in own or not name.startswith(backbone.native_entries)
    }
    if isinstance(backbone, LibraryNetwork):  # with or without its own classifier
        state, _ = backbone.adopt({n.removeprefix(NETWORK): value for n, value in state.items()})
    state = adapted_weights(state, backbone)
    others = other_values(checkpoint, {"backbone": arguments})
    if lines := weight_differences(state, own):
        held = checkpoint["choices"]
        is_same = held["backbone"] == choices["backbone"]
        way_out = f". Fix: add {' '.join(others)}" if is_same and others else ""
        first = (
            f"backbone.pretrained={path}: the checkpoint has {in_words(held)}, but this run has "
            f"{in_words(choices)}; the weights of their backbones differ{way_out}"
        )
        raise CheckpointError("\n".join([first, *lines]))
    return state, others

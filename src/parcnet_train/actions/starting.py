"""What a run starts from: pretrained weights, or a checkpoint that fits it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parcnet_train.build import Config
from parcnet_train.checkpoints.checkpoints import (
    PRETRAINED,
    NetworkSpec,
    check_same_classes,
    check_same_model,
    pretrained_state,
)
from parcnet_train.checkpoints.published import load_published, origin_of, published_state
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.config.keys import flatten
from parcnet_train.errors import CheckpointError
from parcnet_train.runs.directories import BEST, LAST, NOT_OF_A_TRAINING, WITHOUT_RESULT
from parcnet_train.tasks.base import Task

log = logging.getLogger(__name__)

PROJECTIONS = "projections."  # of the distillation, in the Lightning module's state dict


def start_from_weights(config: Config, task: Task) -> bool:
    """Load the weights that a new training starts from; return whether there are any."""
    settings, backbone = config["backbone"], task.model.backbone
    pretrained = settings.get(PRETRAINED)
    published = published_state(settings, backbone)
    if published is not None:
        load_published(task.model, published, origin_of(settings))
        return True
    if pretrained is None:
        return False
    state, others = pretrained_state(pretrained, backbone, config["choices"], settings)
    backbone.load_state_dict(state)
    log.info("the backbone starts from %s", pretrained)
    warn_of_others(pretrained, others)
    return True


def warn_of_others(path: Path | str, others: Sequence[str]) -> None:
    """Warn about values that fit a checkpoint's weights but change what they compute."""
    if others:
        log.warning("%s was trained with other values than this run's: %s", path, " ".join(others))


def read_model(path: Path, task: Task, data: Any, spec: NetworkSpec) -> dict[str, Any]:
    """Read a checkpoint, and check that its model and classes are those of this run.

    Args:
        path: File of the checkpoint.
        task: Lightning module of this run.
        data: Data module of this run.
        spec: Network of this run, as the configuration names it.

    Raises:
        CheckpointError: If they are not.
    """
    checkpoint = read_checkpoint(path)
    check_same_classes(checkpoint, data.class_names, path)
    check_same_model(checkpoint, task.model, spec, path)
    return checkpoint


def refuse_other_projections(checkpoint: Mapping[str, Any], path: Path, task: Task) -> None:
    """Refuse to resume a training whose teacher was compared at other levels.

    Raises:
        CheckpointError: If the trained projections differ.
    """
    ours = {name: value.shape for name, value in task.projections.state_dict().items()}
    theirs = {
        name.removeprefix(PROJECTIONS): value.shape
        for name, value in checkpoint["state_dict"].items()
        if name.startswith(PROJECTIONS)
    }
    if ours != theirs:
        before = checkpoint["config"]["recipe"].get("distillation")
        raise CheckpointError(
            f"ckpt={path}: it was trained with recipe.distillation={before}, whose projections of "
            "feature maps differ from this run's. Fix: use that value, or start a new run from its "
            f"weights with backbone.pretrained={path}"
        )


def without_further_steps(
    checkpoint: Mapping[str, Any], path: Path, max_steps: int | None, epochs: int
) -> int:
    """Return the epochs of a run; those that are done if it has reached `trainer.max_steps`.

    Raises:
        CheckpointError: If it was trained for longer.
    """
    steps = checkpoint["global_step"]
    if max_steps is None or steps < max_steps:
        return epochs
    if steps > max_steps:
        raise CheckpointError(
            f"ckpt={path} has been trained for {steps} steps, trainer.max_steps={max_steps}; "
            "expected at least as many. Fix: raise trainer.max_steps, or evaluate the checkpoint "
            "with action=test"
        )
    return min(epochs, checkpoint["position"]["epoch"])


def refuse_finished(
    checkpoint: Mapping[str, Any], path: Path, max_epochs: int, output: Path
) -> None:
    """Refuse a checkpoint that was trained for longer than this run.

    If it was trained for as long, only the best epoch of its own run is evaluated.

    Raises:
        CheckpointError: If it was, or if this run has no best epoch.
    """
    epochs = checkpoint["epoch"] + 1
    has_checkpoint = (output / BEST).is_file() or (output / LAST).is_file()
    is_done = checkpoint["position"]["epoch"] == max_epochs and not has_checkpoint
    if epochs > max_epochs or is_done:
        raise CheckpointError(
            f"ckpt={path} has been trained for {epochs} epochs, trainer.max_epochs={max_epochs}; "
            f"expected {'more' if is_done else 'at least as many'}. Fix: raise recipe.epochs, or "
            "evaluate the checkpoint with action=test"
        )


def compare_configs(checkpoint: Mapping[str, Any], config: Config) -> None:
    """Warn about every value that differs from that of the checkpoint.

    Args:
        checkpoint: Checkpoint, which contains the configuration of its training.
        config: Whole configuration of this run, which is compared with it key by key.
    """
    before, now = flatten(checkpoint["config"]), flatten(config)
    for key in sorted(before.keys() | now.keys()):
        section, _, name = key.partition(".")
        if section in NOT_OF_A_TRAINING or name in WITHOUT_RESULT.get(section, ()):
            continue
        old, new = before.get(key), now.get(key)
        if old != new:
            log.warning("%s is %s now, the checkpoint was trained with %s", key, new, old)

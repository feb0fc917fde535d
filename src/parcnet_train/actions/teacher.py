"""The teacher of a training, from `recipe.distillation`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from parcnet_train.build import Config, height_and_width
from parcnet_train.checkpoints.published import fitting_state, log_taken, published_weights
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.checkpoints.state_dict_diff import weight_differences
from parcnet_train.config.sections import Distillation as Settings
from parcnet_train.config.sections import Recipe
from parcnet_train.config.typed import section
from parcnet_train.errors import CheckpointError, listed
from parcnet_train.models.backbones.timm import Timm
from parcnet_train.models.heads.native import Native
from parcnet_train.models.model import Model
from parcnet_train.restore import restore
from parcnet_train.runs.directories import checkpoint_in
from parcnet_train.tasks.distillation import Distillation

log = logging.getLogger(__name__)

KEY = "recipe.distillation.teacher"
WORDS = {
    "soft": "probabilities",
    "hard": "most probable class",
    "feature": "feature maps",
}


def build_distillation(
    config: Config, student: Model, class_names: Sequence[str]
) -> Distillation | None:
    """Load the teacher of a training, and make the loss of its student.

    Args:
        config: Whole configuration.
        student: Model that is trained.
        class_names: Classes of the data; a teacher of `kind` soft or hard must have the same.

    Returns:
        None without a teacher.

    Raises:
        CheckpointError: If the teacher cannot be read, or has other classes.
        ConfigError: If a network has no such level.
    """
    settings = section(Recipe, config).distillation
    if settings is None:
        return None
    if settings.weights is None:
        teacher, size = load_teacher(settings, class_names)
    else:
        teacher, size = load_published_teacher(
            settings, settings.weights, len(class_names), student.in_channels
        )
    if config["channels_last"]:
        teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    log.info(
        "recipe.distillation: the teacher is %s, at %dx%d pixels; the student learns its %s",
        settings.teacher,
        *size,
        WORDS[settings.kind],
    )
    distillation = Distillation(teacher, size, student.backbone.levels, settings)
    if config["compile"]:
        distillation.compile()
    return distillation


def load_teacher(settings: Settings, class_names: Sequence[str]) -> tuple[Model, tuple[int, int]]:
    """Load a teacher.

    Returns:
        The model, and the height and width of the images that it was trained with.

    Raises:
        CheckpointError: If it cannot be read, or has other classes than the student.
    """
    path = checkpoint_in(settings.teacher, key=KEY)
    checkpoint = read_checkpoint(path, KEY)
    if settings.kind != "feature":
        refuse_other_outputs(checkpoint, class_names, settings)
    config = checkpoint["config"]
    data = config.get("data") or config["recipe"]  # converted checkpoints have no data
    return restore(checkpoint, path), height_and_width(data["image_size"])


def load_published_teacher(
    settings: Settings, weights: str, num_classes: int, channels: int
) -> tuple[Model, tuple[int, int]]:
    """Load a network of timm with its published weights.

    Args:
        settings: Settings of the teacher, which is timm's name of the network.
        weights: File of its weights.
        num_classes: Number of classes of the data, which its classifier must have.
        channels: Number of channels of the student's images, to which its weights are adapted.

    Returns:
        The model, and the height and width of the images that it was published for.

    Raises:
        CheckpointError: If the file cannot be read, or its weights are those of another network or
            of other classes.
        ConfigError: If timm has no such network.
    """
    origin = f"recipe.distillation.weights={weights}"
    is_compared = settings.kind == "feature"
    backbone = Timm(settings.teacher, native=not is_compared, in_channels=channels)
    published = published_weights(weights, backbone, "recipe.distillation.weights")
    own, classifier = fitting_state(published.state, backbone, origin)
    backbone.load_state_dict(own)
    log_taken(published, origin)
    if is_compared:
        return Model(backbone, nn.Identity()), backbone.published_size
    head = Native(backbone.levels, num_classes, backbone.classifier(num_classes))
    if weight_differences(classifier, head.classifier.state_dict()):
        raise CheckpointError(
            f"{origin}: its classifier is not for the {num_classes} classes of the data; "
            f"kind={settings.kind} expects the same classes. Fix: a teacher trained on these "
            "classes, or recipe.distillation.kind=feature"
        )
    head.classifier.load_state_dict(classifier)
    return Model(backbone, head), backbone.published_size


def refuse_other_outputs(
    checkpoint: Mapping[str, Any], class_names: Sequence[str], settings: Settings
) -> None:
    """Refuse a teacher whose logits are not those of the student's classes.

    Raises:
        CheckpointError: If it is no classifier, or one of other classes.
    """
    task, held = checkpoint["choices"]["task"], checkpoint["class_names"]
    if task != "classification":
        raise CheckpointError(
            f"{KEY}={settings.teacher}: its task is {task}; kind={settings.kind} expects a "
            "classifier. Fix: recipe.distillation.kind=feature"
        )
    is_named = checkpoint.get("names_classes", True)
    if len(held) != len(class_names) or (is_named and held != list(class_names)):
        raise CheckpointError(
            f"{KEY}={settings.teacher}: its {len(held)} classes ({listed(held)}) are not those of "
            f"the data ({len(class_names)}: {listed(class_names)}); kind={settings.kind} expects "
            "the same classes in the same order. Fix: a teacher trained on these classes, or "
            "recipe.distillation.kind=feature"
        )

"""Weights that a library publishes for its own networks: from a file, or from the library."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from parcnet_train.checkpoints.checkpoints import BACKBONE, PRETRAINED, WEIGHTS
from parcnet_train.checkpoints.published_files import (
    OwnCheckpointError,
    Published,
    read_published,
)
from parcnet_train.checkpoints.state_dict_diff import weight_differences
from parcnet_train.errors import CheckpointError
from parcnet_train.models.backbones.adapt import adapted_weights
from parcnet_train.models.backbones.library import LibraryNetwork
from parcnet_train.models.base import Backbone
from parcnet_train.models.heads.native import Native
from parcnet_train.models.model import Model
from parcnet_train.runs.directories import BEST, checkpoint_in
from parcnet_train.runs.releases import INDEX, is_ours, is_weights, located
from parcnet_train.runs.releases import WEIGHTS as WEIGHTS_FILE

# Of files that `read_published` may read.
SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".safetensors", ".tar")

log = logging.getLogger(__name__)


def published_state(settings: Mapping[str, Any], backbone: Backbone) -> Published | None:
    """Return the state dict of the library's network that a training starts from.

    Args:
        settings: Arguments of the backbone, with the keys `pretrained` and `weights`.
        backbone: Backbone of this run.

    Returns:
        The state dict under the library's names, with the classifier; None if `backbone.weights`
        and `backbone.pretrained` name no weights of a library.

    Raises:
        CheckpointError: If the library cannot load its weights, or the file cannot be read.
    """
    if not isinstance(backbone, LibraryNetwork):
        return None
    if settings.get(WEIGHTS) is not None:
        return Published(backbone.library_state())
    path = settings.get(PRETRAINED)
    return None if path is None else published_pretrained(path, backbone)


def origin_of(settings: Mapping[str, Any]) -> str:
    """Return the key and value of a backbone's settings that name the weights of a library."""
    key = WEIGHTS if settings.get(WEIGHTS) is not None else PRETRAINED
    return f"backbone.{key}={settings[key]}"


def published_pretrained(path: str, backbone: LibraryNetwork) -> Published | None:
    """Read the weights of a library that `backbone.pretrained` names.

    Args:
        path: See `published_weights`.
        backbone: Backbone that they are for.

    Returns:
        The weights; None if it names a checkpoint, a run or a release of this package.

    Raises:
        CheckpointError: If the file cannot be read.
    """
    key = f"{BACKBONE}{PRETRAINED}"
    file, given = checkpoint_in(path, key=key), located(path, key)
    if given.is_dir() and not file.is_file():
        raise CheckpointError(f"{key}={path}: {lacking_weights(given)}")
    is_run = given.is_dir() and not is_weights(file)
    if is_run or is_ours(file):
        return None
    try:
        return published_weights(path, backbone, key)
    except OwnCheckpointError:
        return None


def lacking_weights(folder: Path) -> str:
    """Describe a folder that has no weights under the names that are looked for."""
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    return (
        f"the folder has no {WEIGHTS_FILE}, {INDEX} or {BEST}; expected one of them. "
        f"Fix: name the file itself, such as {files[0] if files else folder / 'NAME.pth'}"
    )


def published_weights(path: str, backbone: LibraryNetwork, key: str) -> Published:
    """Read weights of a library.

    Args:
        path: File of a library, folder in the layout of the Hugging Face hub, or its name there.
        backbone: Backbone that they are for.
        key: Config key that names the file, for the message.

    Raises:
        OwnCheckpointError: If the file is a checkpoint of this package.
        CheckpointError: If the file is no state dict.
    """
    file, names = checkpoint_in(path, key=key), backbone.state_dict().keys()
    try:
        return read_published(file, lambda state: len(backbone.adopt(state)[0].keys() & names))
    except CheckpointError as error:
        raise type(error)(f"{key}={error}") from error


def fitting_state(
    state: Mapping[str, Tensor], backbone: LibraryNetwork, origin: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the entries of a library's state dict by our names: the backbone's, the classifier's.

    Args:
        state: State dict of the library's whole network.
        backbone: Backbone of this run.
        origin: Key and value that name the weights, for the message.

    Raises:
        CheckpointError: If they are not those of the backbone; the message names every entry that
            differs.
    """
    own, classifier = backbone.adopt(state)
    own = adapted_weights(own, backbone)
    if lines := weight_differences(own, backbone.state_dict()):
        first = f"{origin}: these are not the weights of {backbone.described()}"
        raise CheckpointError("\n".join([first, *lines]))
    return own, classifier


def log_taken(published: Published, origin: str) -> None:
    """Log which weights of a file were taken, unless it contains no others."""
    if str(published):
        log.info("%s: %s", origin, published)


def load_published(model: Model, published: Published, origin: str) -> None:
    """Load a library's state dict into a model; the classifier too, if the model has its own.

    Args:
        model: Model of this run.
        published: State dict of the library's whole network.
        origin: Key and value that name the weights, for the messages.

    Raises:
        CheckpointError: If it is not that of the backbone.
    """
    backbone: Any = model.backbone
    own, classifier = fitting_state(published.state, backbone, origin)
    backbone.load_state_dict(own)
    log_taken(published, origin)
    log.info("the backbone starts from %s: %s", origin, backbone.preprocessing())
    if not isinstance(model.head, Native):
        return
    expected = model.head.classifier.state_dict()
    if weight_differences(classifier, expected):
        log.info("its classifier is left out, since it is for other classes than the data have")
        return
    model.head.classifier.load_state_dict(classifier)
    log.info("so does its classifier, which has as many classes as the data")

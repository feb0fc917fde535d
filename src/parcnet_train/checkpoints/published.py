"""Weights that a library publishes for its own networks: from a file, or from the library."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from parcnet_train.checkpoints.checkpoints import PRETRAINED, WEIGHTS
from parcnet_train.checkpoints.published_files import read_published
from parcnet_train.checkpoints.state_dict_diff import weight_differences
from parcnet_train.errors import CheckpointError
from parcnet_train.models.backbones.adapt import adapted_weights
from parcnet_train.models.backbones.library import LibraryNetwork
from parcnet_train.models.base import Backbone
from parcnet_train.models.heads.native import Native
from parcnet_train.models.model import Model
from parcnet_train.runs.releases import is_ours, is_weights, located, weights_in

log = logging.getLogger(__name__)


def published_state(settings: Mapping[str, Any], backbone: Backbone) -> dict[str, Tensor] | None:
    """Return the state dict of the library's network that a training starts from.

    Args:
        settings: Arguments of the backbone, with the keys `pretrained` and `weights`.
        backbone: Backbone of this run.

    Returns:
        The state dict under the library's names, with the classifier; None if `backbone.weights`
        and `backbone.pretrained` name no weights of a library.

    Raises:
        CheckpointError: If the library cannot load its weights.
    """
    if not isinstance(backbone, LibraryNetwork):
        return None
    if settings.get(WEIGHTS) is not None:
        return backbone.library_state()
    path = settings.get(PRETRAINED)
    return None if path is None else state_of_file(path)


def origin_of(settings: Mapping[str, Any]) -> str:
    """Return the key and value of a backbone's settings that name the weights of a library."""
    key = WEIGHTS if settings.get(WEIGHTS) is not None else PRETRAINED
    return f"backbone.{key}={settings[key]}"


def published_file(path: str, key: str) -> Path:
    """Return the file of a library's weights.

    Args:
        path: The file itself, a folder in the layout of timm, or the name of one on the hub.
        key: Config key that has this value, for the message.

    Raises:
        CheckpointError: If the hub's folder is neither in the cache nor can be downloaded.
    """
    found = located(path, key)
    return (weights_in(found) if found.is_dir() else None) or found


def state_of_file(path: str) -> dict[str, Tensor] | None:
    """Read a state dict; None if the file is a checkpoint or a release of this package.

    Args:
        path: See `published_file`.

    Raises:
        CheckpointError: If the weights of a library's release cannot be read.
    """
    key = f"backbone.{PRETRAINED}"
    file = published_file(path, key)
    if not is_weights(file):
        try:
            return read_published(file)[0]
        except CheckpointError:
            return None
    return None if is_ours(file) else published_weights(path, key)


def published_weights(path: str, key: str) -> dict[str, Tensor]:
    """Read a state dict.

    Args:
        path: See `published_file`.
        key: Config key that names the file, for the message.

    Raises:
        CheckpointError: If the file is no state dict.
    """
    file = published_file(path, key)
    try:
        return read_published(file)[0]
    except CheckpointError as error:
        raise CheckpointError(f"{key}={error}") from error


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


def load_published(model: Model, state: Mapping[str, Tensor], origin: str) -> None:
    """Load a library's state dict into a model; the classifier too, if the model has its own.

    Raises:
        CheckpointError: If it is not that of the backbone.
    """
    backbone: Any = model.backbone
    own, classifier = fitting_state(state, backbone, origin)
    backbone.load_state_dict(own)
    log.info("the backbone starts from %s: %s", origin, backbone.preprocessing())
    if not isinstance(model.head, Native):
        return
    expected = model.head.classifier.state_dict()
    if weight_differences(classifier, expected):
        log.info("its classifier is left out, since it is for other classes than the data have")
        return
    model.head.classifier.load_state_dict(classifier)
    log.info("so does its classifier, which has as many classes as the data")

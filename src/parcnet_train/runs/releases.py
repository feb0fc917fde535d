"""Folders of published weights: their files, and names of the Hugging Face hub.

A release that `action=release` has written, or one of timm, is a folder with
    config.json  model.safetensors (or model.safetensors.index.json and its parts)  README.md
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from parcnet_train.errors import CheckpointError, first_line, reason_of
from parcnet_train.files import read_regular

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
INDEX = f"model{INDEX_SUFFIX}"
CARD = "README.md"
OURS = "parcnet_train"  # section of `config.json` that timm does not know

HUB = "hf-hub:"  # prefix of a name on the Hugging Face hub, as in timm
WANTED = [CONFIG, "model*.safetensors*"]  # files of a hub's folder that are downloaded


def located(path: str | Path, key: str = "ckpt") -> Path:
    """Return the file or folder of a path, or of a name on the hub.

    Args:
        path: Path, or `hf-hub:OWNER/NAME` with or without `@REVISION`.
        key: Config key that has this value, for the message.

    Raises:
        CheckpointError: If the name is neither in the cache nor can be downloaded.
    """
    if isinstance(path, str) and path.startswith(HUB):
        return hub_folder(path, key)
    return Path(path).expanduser()


def weights_in(folder: Path) -> Path | None:
    """Return the file of the weights in a release; None if the folder is none."""
    if (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file():
        return folder / INDEX
    is_release = any((folder / name).is_file() for name in (CONFIG, WEIGHTS))
    return folder / WEIGHTS if is_release else None


def is_weights(path: Path) -> bool:
    """Return whether a file has the name of a release's weights."""
    return path.name.endswith((".safetensors", INDEX_SUFFIX))


def is_ours(path: Path) -> bool:
    """Return whether a file is the weights of a release that `action=release` has written."""
    try:
        return is_weights(path) and OURS in read_config(path.parent)
    except CheckpointError:
        return False


def read_config(folder: Path, key: str = "ckpt") -> dict[str, Any]:
    """Read `config.json` of a release; its content is not trusted.

    Raises:
        CheckpointError: If it is missing, or is no JSON object.
    """
    file = folder / CONFIG
    try:
        content = json.loads(read_regular(file))
    except OSError as error:
        raise CheckpointError(
            f"{key}={folder}: {CONFIG} cannot be read: {reason_of(error)}; expected a folder that "
            "action=release has written"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{key}={folder}: {CONFIG} is not JSON: {first_line(error)}"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{key}={folder}: {CONFIG} is not a JSON object")
    return content


@functools.cache  # a command asks more than once, and each time may ask the hub
def hub_folder(name: str, key: str) -> Path:
    """Return the local copy of a folder on the Hugging Face hub; it is downloaded if necessary.

    Args:
        name: `hf-hub:OWNER/NAME`, or `hf-hub:OWNER/NAME@REVISION`.
        key: Config key that has this value, for the message.

    Raises:
        CheckpointError: If it is neither in the cache of huggingface_hub nor can be downloaded, or
            has no weights in safetensors.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CheckpointError(
            f"{key}={name}: the package huggingface_hub is not installed. "
            "Fix: pip install 'parcnet-train[huggingface]'"
        ) from error
    repository, _, revision = name.removeprefix(HUB).partition("@")
    reason = "the hub has no such files"
    for is_offline in (True, False):
        try:
            found = snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=WANTED,
                local_files_only=is_offline,
            )
        except Exception as error:  # the classes of its errors differ between versions
            reason = first_line(error).rstrip(".")
            continue
        if (Path(found) / CONFIG).is_file() and (weights_in(Path(found)) or Path()).is_file():
            return Path(found)
    raise CheckpointError(
        f"{key}={name}: {CONFIG} and {WEIGHTS} are neither in the cache of huggingface_hub nor can "
        f"they be downloaded ({reason}); expected {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION. "
        f"Fix: check the name and the network, or download it elsewhere with `hf download "
        f"{repository}` and use its folder: {key}=FOLDER"
    )

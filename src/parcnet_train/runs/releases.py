"""Folders of published weights: their files, and names of the Hugging Face hub.

A release that `action=release` has written, or one of timm, is a folder with
    config.json  model.safetensors (or model.safetensors.index.json and its parts)  README.md
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from parcnet_train.errors import CheckpointError, first_line, reason_of, shortened
from parcnet_train.files import read_regular

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
INDEX = f"model{INDEX_SUFFIX}"
CARD = "README.md"
OURS = "parcnet_train"  # section of `config.json` that timm does not know

HUB = "hf-hub:"  # prefix of a name on the Hugging Face hub, as in timm
# Files of a hub's folder that are downloaded; variants such as model.fp16.safetensors are not.
WANTED = [CONFIG, WEIGHTS, INDEX, "model-*-of-*.safetensors"]


def located(path: str | Path, key: str = "ckpt") -> Path:
    """Return the file or folder of a path, or of a name on the hub.

    Args:
        path: Path, or `hf-hub:OWNER/NAME` with or without `@REVISION`.
        key: Config key that has this value, for the message.

    Raises:
        CheckpointError: If the name is neither in the cache nor can be downloaded, or the path can
            not be one.
    """
    if isinstance(path, str) and path.startswith(HUB):
        return hub_folder(path, key)
    try:
        found = Path(path).expanduser()
        found.is_dir()  # of a name that is too long, or in a folder that may not be read
    except (OSError, RuntimeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else first_line(error)
        raise CheckpointError(
            f"{key}={shortened(path)}: the path cannot be read: {reason}"
        ) from error
    return found


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
            "action=release has written. Fix: convert other weights with scripts/convert_weights.py"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{key}={folder}: {CONFIG} is not JSON: {first_line(error)}"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{key}={folder}: {CONFIG} is not a JSON object")
    return content


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
        found = snapshot_of(name)
    except ImportError as error:
        raise CheckpointError(
            f"{key}={name}: the package huggingface_hub is not installed. "
            "Fix: pip install 'parcnet-train[huggingface]'"
        ) from error
    if isinstance(found, Path):
        return found
    repository = name.removeprefix(HUB).partition("@")[0]
    raise CheckpointError(
        f"{key}={name}: {CONFIG} and {WEIGHTS} are neither in the cache of huggingface_hub nor can "
        f"they be downloaded ({found}); expected {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION. "
        f"Fix: check the name and the network, or download it elsewhere with `hf download "
        f"{repository}` and use its folder: {key}=FOLDER"
    )


@functools.cache  # a command asks more than once, and each time may ask the hub
def snapshot_of(name: str) -> Path | str:
    """Return the local copy of a folder on the hub, or the reason why there is none.

    Args:
        name: `hf-hub:OWNER/NAME`, or `hf-hub:OWNER/NAME@REVISION`.

    Raises:
        ImportError: If huggingface_hub is not installed.
    """
    from huggingface_hub import snapshot_download

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
        if is_complete(Path(found)):
            return Path(found)
    return reason


def is_complete(folder: Path) -> bool:
    """Return whether a folder has all files of a release; an interrupted download has not."""
    weights = weights_in(folder)
    if weights is None or not weights.is_file() or not (folder / CONFIG).is_file():
        return False
    if weights.name != INDEX:
        return True
    try:
        shards = set(json.loads(read_regular(weights))["weight_map"].values())
        return all((folder / Path(name).name).is_file() for name in shards)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return True  # reading the index reports what is wrong with it

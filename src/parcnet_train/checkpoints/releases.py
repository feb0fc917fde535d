"""Reading of releases, which `action=release` writes, as checkpoints that have only weights.

Nothing in a release is executed. What its configuration names is checked where a checkpoint's
configuration is: before it is built or composed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load

from parcnet_train.checkpoints.renamed import renamed
from parcnet_train.errors import CheckpointError, first_line, reason_of
from parcnet_train.files import read_regular
from parcnet_train.runs.releases import CONFIG, OURS, read_config

FORMAT = 1  # of our section in `config.json`; another one is written when old readers would fail
PREFIX = "model."  # of the network's entries in a checkpoint's state dict

# Keys of our section that a checkpoint has too, with the type of each.
NEEDED: dict[str, type] = {"config": dict, "choices": dict, "class_names": list, "epoch": int}
PARTS = ("backbone", "head", "task", "recipe")  # of the configuration


def read_release(path: Path, key: str = "ckpt") -> dict[str, Any]:
    """Read a release onto the CPU, and verify the checksum of its weights.

    Args:
        path: File of its weights.
        key: Config key that names the folder, for the message.

    Returns:
        What a checkpoint of this package holds, without the state of a training.

    Raises:
        CheckpointError: If a file is missing or damaged, or the folder is not one that
            `action=release` has written.
    """
    folder = path.parent
    config = read_config(folder, key)
    ours = config.get(OURS)
    if not isinstance(ours, dict):
        raise CheckpointError(
            f"{key}={folder}: {CONFIG} has no section {OURS}, so action=release has not written "
            "it. Fix: for a network of timm, backbone=timm backbone.name=NAME "
            f"backbone.pretrained={folder}; for other weights, scripts/convert_weights.py"
        )
    if fault := fault_of(ours, config.get("num_classes")):
        raise CheckpointError(f"{key}={folder}: {CONFIG}: {OURS}.{fault}")
    content = checked_content(path, ours["sha256"], key)
    try:
        state = load(content)
    except Exception as error:  # the classes of its errors differ between versions
        raise CheckpointError(
            f"{key}={path} cannot be read as safetensors: {first_line(error)}"
        ) from error
    return {
        **ours,
        "config": {**renamed(ours["config"]), "choices": ours["choices"]},
        "state_dict": {f"{PREFIX}{name}": value for name, value in state.items()},
    }


def checked_content(path: Path, expected: str, key: str) -> bytes:
    """Return the content of a file whose SHA-256 checksum is known.

    Raises:
        CheckpointError: If the file cannot be read, or has another checksum.
    """
    try:
        content = read_regular(path)
    except OSError as error:
        raise CheckpointError(
            f"{key}={path.parent}: {path.name} cannot be read: {reason_of(error)}"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise CheckpointError(
            f"{key}={path.parent}: {path.name} has the SHA-256 checksum {found[:12]}..., but "
            f"{CONFIG} says {expected[:12]}...; the file is damaged or was replaced. Fix: download "
            "the folder again"
        )
    return content


def fault_of(ours: Mapping[str, Any], num_classes: Any) -> str | None:
    """Return what is wrong with our section of `config.json`; None if nothing is.

    Args:
        ours: The section.
        num_classes: Number of classes that the part for timm has.
    """
    if ours.get("format") != FORMAT:
        return f"format is {ours.get('format')}; expected {FORMAT}. Fix: update parcnet-train"
    for name, kind in NEEDED.items():
        if not isinstance(ours.get(name), kind):
            return f"{name} is missing or invalid; expected a {kind.__name__}"
    config, names = ours["config"], ours["class_names"]
    if not isinstance(ours.get("sha256"), str):
        return "sha256 is missing; expected the checksum of the weights"
    if not all(isinstance(name, str) for name in names):
        return "class_names has entries that are no text"
    if len(names) != num_classes:
        return f"class_names has {len(names)} names, but num_classes is {num_classes}"
    for part in PARTS:
        if not isinstance(config.get(part), dict):
            return f"config.{part} is missing; expected a mapping"
    for part in ("backbone", "head"):
        if "_target_" not in config[part]:
            return f"config.{part}._target_ is missing; expected the name of a class"
    if not isinstance(config.get("data") or {}, dict):
        return "config.data is invalid; expected a mapping"
    size = (config.get("data") or config["recipe"]).get("image_size")
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        return "config has no valid image_size; expected pixels, or height and width"
    choices = ours["choices"]
    if not all(isinstance(choices.get(name), str) for name in ("task", "backbone", "head")):
        return "choices lacks task, backbone or head; expected the names of the chosen configs"
    return None

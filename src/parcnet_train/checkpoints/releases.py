"""Reading of releases, which `action=release` writes, as checkpoints that have only weights.

Nothing in a release is executed. What its configuration names is checked where a checkpoint's
configuration is: before it is built or composed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any

from safetensors.torch import load

from parcnet_train.checkpoints.renamed import renamed
from parcnet_train.data.channels import RGB
from parcnet_train.errors import CheckpointError, first_line, printable, reason_of, shortened
from parcnet_train.files import read_regular
from parcnet_train.runs.releases import CONFIG, OURS, read_config

FORMAT = 1  # of our section in `config.json`; another one is written when old readers would fail
Kind = type | UnionType
PREFIX = "model."  # of the network's entries in a checkpoint's state dict

# Keys of our section that a checkpoint has too, with the type of each. No other keys are taken: a
# training would resume from those of its state.
NEEDED: dict[str, Kind] = {"config": dict, "choices": dict, "class_names": list, "epoch": int}
OPTIONAL: dict[str, Kind] = {
    "averaged": list,
    "category_ids": list | None,
    "converted": dict,
    "dataset": str | None,
    "distillation": dict | None,
    "ema": bool,
    "global_step": int,
    "metrics": dict | None,
    "names_classes": bool,
    "parcnet_train_version": str | None,
    "provenance": dict | None,
    "training_images": list | None,
}
ENTRIES = {"averaged": str, "category_ids": int, "class_names": str, "training_images": int}
CHOSEN = ("task", "backbone", "head", "data", "recipe")  # groups that identify a network
NAMES = re.compile(r"[\w./-]+")  # of configs, which become words of a command line
DEEPEST = 50  # levels of the configuration
LARGEST = 2**15  # sides of images, in pixels
MOST_CHANNELS = 128
LAST = 2**31  # epochs
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
    known = {name: ours[name] for name in (*NEEDED, *OPTIONAL) if name in ours}
    return {
        **known,
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
        found = printable(shortened(ours.get("format")))
        return f"format is {found}; expected {FORMAT}. Fix: update parcnet-train"
    if fault := fault_of_types(ours):
        return fault
    config, names = ours["config"], ours["class_names"]
    if not isinstance(ours.get("sha256"), str):
        return "sha256 is missing; expected the checksum of the weights"
    if not -1 <= ours["epoch"] < LAST:  # -1: converted
        return f"epoch is not from -1 to {LAST - 1}"
    if len(names) != num_classes:
        given = printable(shortened(num_classes))
        return f"class_names has {len(names)} names, but num_classes is {given}"
    return fault_of_config(config) or fault_of_choices(ours["choices"])


def is_a(value: Any, kind: Kind) -> bool:
    """Return whether a value of JSON has a type; true and false are no numbers."""
    return isinstance(value, kind) and not (isinstance(value, bool) and kind is int)


def fault_of_types(ours: Mapping[str, Any]) -> str | None:
    """Return which value of our section has another type than a checkpoint's; None if none."""
    for name, kind in (NEEDED | OPTIONAL).items():
        if (name in ours or name in NEEDED) and not is_a(ours.get(name), kind):
            word = kind.__name__ if isinstance(kind, type) else str(kind)
            return f"{name} is missing or invalid; expected {word}"
    for name, kind in ENTRIES.items():
        if not all(is_a(each, kind) for each in ours.get(name) or []):
            return f"{name} has entries that are no {kind.__name__}"
    return None


def fault_of_config(config: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the configuration of a release; None if nothing is."""
    if fault := fault_of_values(config):
        return fault
    for part in PARTS:
        if not isinstance(config.get(part), dict):
            return f"config.{part} is missing; expected a mapping"
    for part in ("backbone", "head"):
        if not isinstance(config[part].get("_target_"), str):
            return f"config.{part}._target_ is missing; expected the name of a class"
    if not isinstance(config.get("data") or {}, dict):
        return "config.data is invalid; expected a mapping"
    data = config.get("data") or config["recipe"]
    size, channels = data.get("image_size"), data.get("channels", RGB)
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(is_a(side, int) and 0 < side <= LARGEST for side in sides):
        return (
            f"config has no valid image_size; expected pixels, or height and width, up to {LARGEST}"
        )
    if not is_a(channels, int) or not 0 < channels <= MOST_CHANNELS:
        return f"config.data.channels is invalid; expected a number from 1 to {MOST_CHANNELS}"
    return None


def fault_of_values(config: Mapping[str, Any]) -> str | None:
    """Return whether a configuration is nested too deep or has interpolations; None if neither."""
    level: list[Any] = [config]
    for _ in range(DEEPEST):
        if any(isinstance(each, str) and "${" in each for each in level):
            return "config has an interpolation, ${...}; expected plain values"
        lists = [each for each in level if isinstance(each, list)]
        mappings = [each for each in level if isinstance(each, dict)]
        parts = [*lists, *mappings, *(each.values() for each in mappings)]
        level = [value for part in parts for value in part]
        if not level:
            return None
    return f"config is nested more than {DEEPEST} levels deep"


def fault_of_choices(choices: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the names of the chosen configs; None if nothing is."""
    if not all(isinstance(choices.get(name), str) for name in ("task", "backbone", "head")):
        return "choices lacks task, backbone or head; expected the names of the chosen configs"
    for name in CHOSEN:
        value = choices.get(name, "")
        if value is not None and not (isinstance(value, str) and NAMES.fullmatch(value)):
            return f"choices.{name} is missing or invalid; expected the name of a config, or null"
    return None

"""What of a training's configuration is published: nothing that names a file, a host or a user."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from parcnet_train.checkpoints.checkpoints import PRETRAINED
from parcnet_train.config.stored import ANYWHERE, CHOSEN
from parcnet_train.runs.evaluations import last_name
from parcnet_train.runs.releases import HUB

# Sections of the configuration, and the keys of them that only concern the training's machine.
SECTIONS: dict[str, tuple[str, ...]] = {
    "backbone": (PRETRAINED,),
    "head": (),
    "task": ("evaluated_classes",),
    "recipe": ("distillation",),
}
# Keys of the data that prepare images and labels: `action=test` needs them, also elsewhere. The
# others name files, or follow from the recipe.
DATA = (
    *("_target_", "image_size", "channels", "keep_aspect", "evaluation", "max_pixels"),
    *("num_classes", "names", "ignored_labels", "first_label"),
)
PRIVATE = re.compile(r"[/\\@~]")  # paths, addresses and URLs


def published_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a checkpoint without the machine and the files of its training.

    Args:
        config: Configuration of the checkpoint.
    """
    found: dict[str, Any] = {
        section: without_private(
            {name: value for name, value in config[section].items() if name not in left_out}
        )
        for section, left_out in SECTIONS.items()
        if section in config
    }
    if config.get("data"):
        found["data"] = {name: config["data"][name] for name in DATA if name in config["data"]}
    return {**found, "seed": config.get("seed")}


def published_choices(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return the names of the chosen configs that name a network and its training."""
    return {name: choices.get(name) for name in (*CHOSEN, *ANYWHERE)}


def without_private(value: Any) -> Any:
    """Return a value without the keys that have, or whose values have, the form of an address."""
    if isinstance(value, Mapping):
        return {
            key: without_private(each)
            for key, each in value.items()
            if not (is_private(key) or is_private(each))
        }
    if isinstance(value, list | tuple):
        return [without_private(each) for each in value]
    return value


def is_private(value: Any) -> bool:
    """Return whether a value is a path, an address or a URL, or a list with one."""
    if isinstance(value, list | tuple):
        return any(map(is_private, value))
    return isinstance(value, str) and PRIVATE.search(value) is not None


def teacher_of(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the teacher of a training: its name in timm or on the hub, or that of its file."""
    given = config["recipe"].get("distillation")
    if given is None:
        return None
    teacher = str(given.get("teacher"))
    name = teacher if teacher.startswith(HUB) else last_name(teacher)
    return {"kind": given.get("kind"), "teacher": name}

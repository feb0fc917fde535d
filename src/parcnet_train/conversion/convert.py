"""Conversion of a published file to a checkpoint of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parcnet_train.build import build_model, has_native_head, meta_device
from parcnet_train.check.config import check
from parcnet_train.checkpoints.checkpoints import PREFIX, write_checkpoint
from parcnet_train.checkpoints.published_files import read_published
from parcnet_train.checkpoints.state_dict_diff import weight_differences
from parcnet_train.config.compose import compose_plain
from parcnet_train.conversion.layouts import LAYOUTS, Layout
from parcnet_train.conversion.translate import Entry, translate
from parcnet_train.data.batches import BACKGROUND_NAME
from parcnet_train.errors import CheckpointError, ConfigError
from parcnet_train.models.heads.ssdlite import classes_of_last
from parcnet_train.version import __version__

Config = dict[str, Any]

# For each task: the entry whose length determines the number of classes, and the function for it.
CLASS_ENTRIES: dict[str, tuple[str, Callable[[int], int]]] = {
    "classification": ("head.linear.bias", int),
    "detection": ("head.predictors.5.bias", classes_of_last),
    "segmentation": ("head.classifier.bias", int),
}

# For each task with a fixed first class: its name.
FIRST_CLASSES = {"detection": BACKGROUND_NAME}


def convert(
    source: Path,
    target: Path,
    publisher: str,
    backbone: str,
    task: str,
    overrides: Sequence[str] = (),
    classes: Path | None = None,
) -> str:
    """Convert a published file to a checkpoint of this package.

    Args:
        source: File or folder with a state dict or training checkpoint, see `read_published`.
        target: Path of the checkpoint; the file must not exist.
        publisher: Key of `LAYOUTS`.
        backbone: Backbone config of the same network.
        task: Task config that the weights were trained for.
        overrides: Overrides of the configuration, such as `backbone.fusion=add`.
        classes: File with one class name per line; for a detector, `background` comes first.
            Without it, the checkpoint has no class names.

    Returns:
        A summary of the conversion as one line of text.

    Raises:
        ConfigError: If the configuration has faults.
        CheckpointError: If a file cannot be read or written, or does not fit; the message names
            every entry that does not fit.
    """
    config = compose_for(task, backbone, overrides)
    choices = config["choices"]
    layout = find_layout(publisher, choices["backbone"], config["backbone"]["_target_"])
    if task == "classification":
        own = [] if layout.image_size is None else [f"recipe.image_size={layout.image_size}"]
        own += ["head=native"] if layout.native else []
        config = compose_for(task, backbone, [*own, *overrides]) if own else config
    if target.exists() or not target.parent.is_dir():
        reason = "already exists" if target.exists() else "is in a folder that does not exist"
        raise CheckpointError(
            f"{target} {reason}, and nothing is overwritten. Fix: name another target"
        )
    with meta_device():
        known = build_model(config, 2).state_dict().keys()  # names do not depend on the classes
    published = read_published(source, lambda state: len(translate(state, layout).keys() & known))
    entries = translate(published.state, layout)
    first_class = FIRST_CLASSES.get(task)
    names = read_classes(classes, first_class) if classes else None
    count = count_classes(entries, choices["task"], has_native_head(config), source)
    if names is not None and len(names) != count:
        raise CheckpointError(
            f"--classes {classes}: the file has {len(names)} names; expected {count}, one for "
            f"every class of {source}"
        )
    with meta_device():
        expected = build_model(config, count).state_dict()
    state = fit_entries(entries, expected, choices["backbone"], source)
    write_checkpoint(
        target,
        {
            "state_dict": {f"{PREFIX}{name}": value for name, value in state.items()},
            "config": config,
            "choices": config["choices"],
            "class_names": names or [first_class or "0", *map(str, range(1, count))],
            "names_classes": names is not None,
            "epoch": -1,  # no epoch was trained by this package
            "global_step": 0,
            "converted": {"from": publisher, "file": source.name, "entry": published.entry},
            "parcnet_train_version": __version__,
        },
    )
    return (
        f"{target}: {backbone} for {task}, {count} classes, {len(state)} tensors"
        f"{f', {published}' if str(published) else ''}"
        f"{'' if layout.bgr_stem is None else '; first convolution converted from BGR to RGB'}"
    )


def compose_for(task: str, backbone: str, overrides: Sequence[str]) -> Config:
    """Compose the configuration of a network without data.

    Raises:
        ConfigError: If it has faults.
    """
    # Composing needs some data, which is removed again; imagefolder does not change the recipe.
    fixed = [f"task={task}", f"backbone={backbone}", "data=imagefolder", "data.root=none"]
    plain = compose_plain([*fixed, *overrides])
    plain.values.pop("data", None)
    plain.values["choices"]["data"] = None
    found = [*plain.faults, *check(plain.values, plain.borrowed | {"data"})]
    if found:
        raise ConfigError(found)
    return plain.values


def find_layout(publisher: str, backbone: str, target: str) -> Layout:
    """Return the layout of a publisher's files for a backbone.

    Args:
        publisher: Key of `LAYOUTS`.
        backbone: Name of the backbone's config, for the message.
        target: Dotted name of the backbone's class.

    Raises:
        ConfigError: If there is none.
    """
    family = target.rpartition(".")[-1]
    known = LAYOUTS.get(publisher, {})
    if family not in known:
        allowed = [name for name, families in LAYOUTS.items() if family in families]
        raise ConfigError(
            f"--from {publisher}: no layout of backbone={backbone} is known; "
            f"expected {' or '.join(allowed) or 'another backbone, since none of this one is'}"
        )
    return known[family]


def read_classes(path: Path, first: str | None = None) -> list[str]:
    """Read class names from a file, one per line.

    Args:
        path: Path of the file.
        first: Name that the first class must have; None allows any name.

    Raises:
        CheckpointError: If the file cannot be read, has a name twice, or begins with another class.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()  # some editors write a BOM
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"--classes {path} cannot be read: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CheckpointError(
            f"--classes {path}: names occur more than once: {', '.join(twice)}; expected one name "
            "per class"
        )
    if first and names[:1] != [first]:
        given = names[0] if names else "nothing"
        raise CheckpointError(
            f"--classes {path}: the first class is {given}; expected {first}, the class without an "
            "object, before all other classes"
        )
    return names


def count_classes(entries: Mapping[str, Entry], task: str, is_native: bool, source: Path) -> int:
    """Return the number of classes, derived from the shape of the weights.

    Args:
        entries: Entries by our names.
        task: Task of the network.
        is_native: Whether the network has its own classifier, see `Native`.
        source: File of the weights, for the message.

    Raises:
        CheckpointError: If the entry that determines it is missing.
    """
    name, count = CLASS_ENTRIES.get(task, ("", int))
    if is_native:
        name = "head.classifier.bias"
    entry = entries.get(name)
    classes = count(len(entry.value)) if entry and entry.value.dim() == 1 else 0
    if classes < 1:
        raise CheckpointError(
            f"{source} has no entry that determines the number of classes of task={task}. "
            "Fix: name the publisher of the file with --from, or use a file that includes the head"
        )
    return classes


def fit_entries(
    entries: Mapping[str, Entry], expected: Mapping[str, Tensor], backbone: str, source: Path
) -> dict[str, Tensor]:
    """Return the network's state dict.

    Args:
        entries: Entries of the published file, by our names.
        expected: State dict of the network, of which names, shapes and types are read.
        backbone: Name of the backbone's config, for the message.
        source: Published file, for the message.

    Raises:
        CheckpointError: If entries are missing, unexpected or of another shape; the message names
            them all.
    """
    held = {name: entry.value for name, entry in entries.items()}
    for name, value in expected.items():
        # Files from before torch 1.0 lack these counts, which only norms with momentum=None read.
        if name.endswith(".num_batches_tracked"):
            held.setdefault(name, torch.zeros(value.shape))
    published = {name: entry.published for name, entry in entries.items()}
    if lines := weight_differences(held, expected, published):
        first = f"{source}: the weights do not fit backbone={backbone}; nothing was written"
        raise CheckpointError("\n".join([first, *lines]))
    # Copies, because torch would save a view together with its whole base tensor.
    return {
        name: held[name].to(value.dtype, copy=True).contiguous() for name, value in expected.items()
    }

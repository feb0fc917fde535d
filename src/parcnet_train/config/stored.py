"""Configurations of actions that read a checkpoint: typed values override its stored values.

The checkpoint provides task, backbone, head, data, recipe and seed, and the choices that name the
run. The command line and its defaults provide the keys in `OF_THE_COMMAND`: where and how to
compute, and the section of the action itself.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from parcnet_train.config.keys import flatten
from parcnet_train.config.overrides import first_job, options_of, overrides_of, quoted, whole
from parcnet_train.errors import CheckpointError, Fault
from parcnet_train.runs.actions import ACTIONS, SECTIONS
from parcnet_train.runs.directories import (
    NAMED_FOR,
    NEWEST,
    checkpoint_in,
    find_checkpoint,
)
from parcnet_train.runs.releases import CONFIG, is_weights

PACKAGE = __name__.partition(".")[0]

# Groups that a checkpoint chooses; each fills the section of its name.
CHOSEN = ("task", "backbone", "head", "data", "recipe")
# Groups that may change any value; a checkpoint already contains their changes.
ANYWHERE = ("experiment", "ablation", "debug")

# Top-level keys that are always taken from the command line, not from the checkpoint.
OF_THE_COMMAND = (
    *("action", "callbacks", "channels_last", "checkpoint", "choices", "ckpt", "compile", "input"),
    *("logger", "overrides", "paths", "trainer"),
    *SECTIONS,
)
# Keys that are also taken from the command line, in sections taken from the checkpoint.
WITHIN = ("data.num_workers", "data.timeout_minutes", "data.cache", "data.cache_gb")

# Keys in sections of the checkpoint that do not affect the result of an evaluation, or that only an
# evaluation can have: a training has no test set.
WITHOUT_EFFECT = (
    *("seed", "data.augmentation", "data.batch_size", "data.multi_scale", "data.num_workers"),
    *("data.split", "data.test_dir", "data.test_list", "data.test_images", "data.test_annotations"),
    *("data.cache", "data.cache_gb"),
    *("data.seed", "data.timeout_minutes", "task.evaluated_classes", "task.pictures"),
    "task.save_predictions",
)
OF_THE_RECIPE = ("recipe.image_size",)  # keys of the recipe that do; the others affect training


@dataclass(frozen=True)
class Stored:
    """Configuration that a checkpoint was trained with.

    Attributes:
        path: Path of the checkpoint.
        config: Stored configuration, as plain values.
        choices: Names of the chosen configs.
    """

    path: Path
    config: Mapping[str, Any]
    choices: Mapping[str, str | None]


def takes_over(action: Any, ckpt: Any) -> bool:
    """Return whether a command takes over the configuration of its checkpoint."""
    return isinstance(ckpt, str) and action in ACTIONS and ACTIONS[action].composed


def read_stored(ckpt: str) -> Stored | None:
    """Read a checkpoint's configuration; None if it is unreadable, which `check` reports.

    Args:
        ckpt: Checkpoint file, run directory or release.
    """
    try:
        path = checkpoint_in(ckpt)
        files = [path, path.parent / CONFIG] if is_weights(path) else [path]
        states = [file.stat() for file in files]
        return _read(path, *((state.st_mtime_ns, state.st_size) for state in states))
    except (OSError, CheckpointError):
        return None


@lru_cache(maxsize=8)  # a command asks more than once
def _read(path: Path, *states: tuple[int, int]) -> Stored:
    """Read a checkpoint whose files have these times and sizes."""
    from parcnet_train.checkpoints.reading import read_checkpoint  # torch takes seconds to import

    checkpoint = read_checkpoint(path)
    return Stored(path, checkpoint["config"], checkpoint["choices"])


@dataclass(frozen=True)
class Adoption:
    """Parts of a checkpoint's configuration that a command line takes over.

    Attributes:
        stored: Configuration of the checkpoint.
        added: Choices of the checkpoint, as overrides that come before the typed ones.
        typed: Groups whose choice is made by the command line.
        base: Configuration composed of all choices except the typed ones of `ANYWHERE`; None if
            there are no such typed choices.
    """

    stored: Stored
    added: list[str]
    typed: frozenset[str]
    base: DictConfig | None


def adoption_of(
    known: DictConfig, groups: Sequence[str], values: Sequence[Override], paths: Sequence[str]
) -> Adoption | None:
    """Return what is taken over from a checkpoint, inside `initialize_config_dir`.

    Args:
        known: Configuration composed of the typed choices.
        groups: Typed choices.
        values: Typed values.
        paths: Overrides that name additional config folders.

    Returns:
        None if the action takes over nothing from a checkpoint, if the typed task is not that of
        the checkpoint, or if there is no readable checkpoint; `check` reports the last two.
    """
    action, ckpt = (typed_value(key, known, values) for key in ("action", "ckpt"))
    stored = read_stored(ckpt) if takes_over(action, ckpt) else None
    if stored is None:
        return None
    parsed = {each.key_or_group: each for each in overrides_of(groups)}
    if "task" in parsed and parsed["task"].value() != stored.choices["task"]:
        return None
    others = [
        group
        for group in ANYWHERE
        if group in parsed and parsed[group].value() != stored.choices.get(group)
    ]
    typed = set(parsed) - set(ANYWHERE) | set(others)
    rest = [text for text in groups if text.split("=")[0] not in others]
    if others:
        choices, before = (each.hydra.runtime.choices for each in (known, whole([*paths, *rest])))
        is_whole = "experiment" in others  # an experiment chooses all parts of a table's row
        typed |= {name for name in CHOSEN if is_whole or choices[name] != before[name]}
    added = [
        f"{name}={choice}"
        for name in CHOSEN
        if name not in typed and (choice := stored.choices.get(name)) is not None
    ]
    added = [each for each in added if exists(each, paths)]
    base = whole([*paths, *added, *rest]) if others else None
    return Adoption(stored, added, frozenset(typed), base)


def exists(choice: str, paths: Sequence[str]) -> bool:
    """Return whether a config exists here; a checkpoint may name one of another user's."""
    (override,) = overrides_of([choice])
    return override.value() in options_of(override, paths)


def with_newest_run(
    known: DictConfig, groups: Sequence[str], values: Sequence[Override]
) -> tuple[list[Override], list[Fault]]:
    """Replace `ckpt=last` by the checkpoint of the newest run that matches the typed choices.

    Args:
        known: Configuration composed of the typed choices.
        groups: Typed choices. A choice that may change any value, such as an experiment, counts as
            typing the resulting task, backbone and data.
        values: Typed values.

    Returns:
        The typed values, and a fault if there is no such run.
    """
    action, ckpt = (typed_value(key, known, values) for key in ("action", "ckpt"))
    if ckpt != NEWEST or action not in ACTIONS or ACTIONS[action].checkpoint == "none":
        return list(values), []
    typed = {each.key_or_group for each in overrides_of(groups)}
    choices = known.hydra.runtime.choices
    is_typed = not typed.isdisjoint(ANYWHERE)
    names = {name: choices[name] if is_typed or name in typed else None for name in NAMED_FOR}
    try:
        path = find_checkpoint(ckpt, typed_value("paths.runs", known, values), action, **names)
    except CheckpointError as error:
        return list(values), [Fault("ckpt", str(error))]
    others = [each for each in values if each.key_or_group != "ckpt"]
    return [*others, *overrides_of([f"ckpt={quoted(str(path))}"])], []


def typed_value(key: str, known: DictConfig, values: Sequence[Override]) -> Any:
    """Return the value of a key in the first job of a sweep, typed or composed."""
    texts = [first_job(each, []) for each in values if each.key_or_group == key]
    if parsed := overrides_of(texts):
        return parsed[-1].value()
    return OmegaConf.select(known, key, throw_on_missing=False)


def adopt(
    config: DictConfig, known: DictConfig, adoption: Adoption, settings: Sequence[str]
) -> None:
    """Copy the values of a checkpoint into a composed configuration.

    An interpolation remains one if the stored value is what it resolved to in training; so typing
    `recipe.image_size` also changes `data.image_size`. If a typed choice of a group differs from
    the checkpoint's, the section of that group is not taken over.

    Args:
        config: Configuration composed of all choices and the typed values; changed in place.
        known: Configuration composed of all choices.
        adoption: Choices and values that are taken over.
        settings: Typed values, as overrides.

    Raises:
        CheckpointError: If the checkpoint names a class that is not trusted.
        OmegaConfBaseException: If a typed value does not fit the stored configuration.
    """
    stored, choices, merged = adoption.stored, config.hydra.runtime.choices, copy.deepcopy(known)
    kept = {
        name
        for name in adoption.typed.intersection(CHOSEN)
        if choices[name] != stored.choices.get(name)
    }
    sections = [
        name
        for name in map(str, stored.config)
        if name in merged and name not in OF_THE_COMMAND and name not in kept
    ]
    typed = overrides_of(settings)
    trust = Trust(stored.path, trusted_targets(known, typed))
    with open_dict(merged):
        for name in sections:
            merged[name] = filled(name, merged[name], stored.config[name], stored.config, trust)
        for key, value in changed(adoption.base, known):
            OmegaConf.update(merged, key, value)
    # Hydra's own way of setting values: quotes, plus signs and deletions keep their meaning.
    ConfigLoaderImpl._apply_overrides_to_config(typed, merged)
    with open_dict(config):
        for name in sections:
            config[name] = merged[name]
        for group in (*(name for name in CHOSEN if name in stored.config), *ANYWHERE):
            if group not in adoption.typed:
                choices[group] = stored.choices.get(group)


def changed(base: DictConfig | None, known: DictConfig) -> Iterator[tuple[str, Any]]:
    """Yield the values that a typed experiment, ablation or debug config changes, unresolved."""
    if base is None:
        return
    before, now = (flatten(OmegaConf.to_container(each, resolve=False)) for each in (base, known))  # type: ignore[arg-type]
    for key, value in now.items():
        if key.split(".")[0] != "hydra" and (key not in before or before[key] != value):
            yield key, value


@dataclass(frozen=True)
class Trust:
    """Classes and functions that a checkpoint may name, since they are called.

    Attributes:
        path: Path of the checkpoint, for the message.
        targets: Parts and names in the configuration that the command line composes.
    """

    path: Path
    targets: frozenset[tuple[str, str]]

    def covers(self, key: str, target: str) -> bool:
        """Return whether the node of a key may call a name."""
        from parcnet_train.targets import may_be

        return (part_of(key), target) in self.targets or may_be(key, target)

    def covers_all(self, key: str, node: Any) -> bool:
        """Return whether all names in the value of a key may be called."""
        from parcnet_train.targets import named_targets

        return all(self.covers(*each) for each in named_targets(node, key))

    def refuse_others(self, key: str, node: Any) -> None:
        """Check that a value names only trusted classes and functions.

        Raises:
            CheckpointError: If it names any other one.
        """
        from parcnet_train.targets import named_targets

        for inner, target in named_targets(node, key):
            if not self.covers(inner, target):
                raise CheckpointError(
                    f"ckpt={self.path}: its {key} is {target}; expected a class of {PACKAGE} for "
                    "this key. "
                    f"Fix: if you trust the file, name it yourself: {key}._target_={target}"
                )


def part_of(key: str) -> str:
    """Return the part of the configuration that a dotted key is in.

    The recipe provides values of the data, such as its augmentation, so that the two are one.
    """
    return key.partition(".")[0].replace("recipe", "data")


def trusted_targets(known: DictConfig, typed: Sequence[Override]) -> frozenset[tuple[str, str]]:
    """Return the classes and functions that a command line composes or types, with their parts."""
    from parcnet_train.targets import named_targets

    plain = OmegaConf.to_container(known, resolve=False)
    assert isinstance(plain, dict)
    composed = [
        each
        for name, node in plain.items()
        for each in named_targets(node, str(name))
        if "${" not in each[1]
    ]
    words = [
        (each.key_or_group, str(each.value()))
        for each in typed
        if each.key_or_group.endswith("._target_")
    ]
    return frozenset((part_of(key), target) for key, target in [*composed, *words])


def filled(key: str, base: Any, value: Any, stored: Mapping[str, Any], trust: Trust) -> Any:
    """Fill a node of a composed configuration with its stored values.

    Args:
        key: Dotted key of the node.
        base: Composed node; None if there is none.
        value: Stored plain value of the node.
        stored: Whole stored configuration.
        trust: Classes that the values may name.

    Returns:
        A node or a plain value. Keys that only one of the two has are kept, since the checkpoint
        may be from another version.

    Raises:
        CheckpointError: If the stored values name a class that is not trusted.
    """
    of_training = key.startswith("recipe.")  # such as a user's optimizer; no evaluation calls it
    if not isinstance(value, Mapping):
        if of_training and isinstance(value, list) and not trust.covers_all(key, value):
            return base
        trust.refuse_others(key, value)
        return value
    target = value.get("_target_")
    if target is not None and not trust.covers(key, str(target)):
        if of_training:
            return base
        trust.refuse_others(key, {"_target_": target})
    is_same = isinstance(base, DictConfig) and base.get("_target_") == target
    node = copy.deepcopy(base) if is_same else OmegaConf.create({})
    with open_dict(node):
        for name in map(str, value):
            inner = f"{key}.{name}"
            if name in node and (inner in WITHIN or gave(node, name, value[name], stored)):
                continue
            is_open = name in node and not (
                OmegaConf.is_missing(node, name) or OmegaConf.is_interpolation(node, name)
            )
            within = node[name] if is_open else None
            node[name] = filled(inner, within, value[name], stored, trust)
    return node


def gave(node: DictConfig, name: str, value: Any, stored: Mapping[str, Any]) -> bool:
    """Return whether the interpolation of a key resolves to its stored value."""
    if not OmegaConf.is_interpolation(node, name):
        return False
    raw = OmegaConf.to_container(node, resolve=False)
    assert isinstance(raw, dict)
    try:
        found = OmegaConf.create({**stored, "found": raw[name]})["found"]
    except OmegaConfBaseException:
        return False
    plain = OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found
    return bool(plain == value)


def typed_differences(
    values: Mapping[str, Any], stored: Stored, overrides: Sequence[str]
) -> list[str]:
    """Return a line for every typed value that differs from the stored one and affects the result.

    Args:
        values: Configuration with the stored values taken over, as plain values.
        stored: Configuration that the checkpoint was trained with.
        overrides: Typed overrides.

    Returns:
        One line per value.
    """
    now, before = flatten(values), flatten(stored.config)
    typed = [
        each.key_or_group
        for each in overrides_of(overrides)
        # The overrides may include choices that were added from the checkpoint.
        if each.value() != stored.choices.get(each.key_or_group, each)
    ]
    return [
        f"{key}={value} was typed, but the checkpoint was trained with {before.get(key)}"
        for key, value in sorted(now.items())
        if has_effect(key)
        and value != before.get(key)
        and any(key == each or key.startswith(f"{each}.") for each in typed)
    ]


def has_effect(key: str) -> bool:
    """Return whether a value changes the result of an evaluation."""
    section = key.split(".")[0]
    if section == "recipe":
        return key in OF_THE_RECIPE
    return section not in OF_THE_COMMAND and not any(
        key == each or key.startswith(f"{each}.") for each in WITHOUT_EFFECT
    )

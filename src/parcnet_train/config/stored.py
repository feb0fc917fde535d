"""Configurations of actions on a checkpoint: its stored values, then typed ones.

From the checkpoint come its task, backbone, head, data, recipe and seed, and with them the choices
that name the run. From the command line and its defaults come what `OF_THE_COMMAND` names: where
and how to compute, and the section of the action itself.
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

PACKAGE = __name__.partition(".")[0]

# Groups that a checkpoint chooses, each with the section that it fills.
CHOSEN = ("task", "backbone", "head", "data", "recipe")
# Groups that change values anywhere; a checkpoint has their values already.
ANYWHERE = ("experiment", "ablation", "debug")

# Top-level keys that are the command line's, whatever a checkpoint has stored.
OF_THE_COMMAND = (
    *("action", "callbacks", "channels_last", "checkpoint", "choices", "ckpt", "compile", "input"),
    *("logger", "overrides", "paths", "trainer"),
    *SECTIONS,
)
# Keys in the sections of a checkpoint that are the command line's as well.
WITHIN = ("data.num_workers",)

# Values of those sections that change nothing about the result of an evaluation.
WITHOUT_EFFECT = (
    *("seed", "data.augmentation", "data.batch_size", "data.multi_scale", "data.num_workers"),
    *("data.seed", "task.pictures", "task.save_predictions"),
)
OF_THE_RECIPE = ("recipe.image_size",)  # that have an effect; the rest is about training


@dataclass(frozen=True)
class Stored:
    """Configuration that a checkpoint was trained with.

    Attributes:
        path: File of the checkpoint.
        config: Its configuration, plain values.
        choices: Names of its chosen configs.
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
        ckpt: Checkpoint file or run directory.
    """
    path = checkpoint_in(ckpt)
    try:
        state = path.stat()
        return _read(path, state.st_mtime_ns, state.st_size)
    except (OSError, CheckpointError):
        return None


@lru_cache(maxsize=8)  # a command asks more than once
def _read(path: Path, modified: int, size: int) -> Stored:
    from parcnet_train.checkpoints.reading import read_checkpoint  # torch: seconds

    checkpoint = read_checkpoint(path)
    return Stored(path, checkpoint["config"], checkpoint["choices"])


@dataclass(frozen=True)
class Adoption:
    """How a command line takes over the configuration of a checkpoint.

    Attributes:
        stored: Configuration of the checkpoint.
        added: Choices of the checkpoint, as overrides that come before the typed ones.
        typed: Groups whose choice the command line makes.
        base: Composed of all choices but the typed ones of `ANYWHERE`; None if there are none.
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
        known: Composed of the typed choices.
        groups: Typed choices.
        values: Typed values.
        paths: Overrides that name further folders of configs.

    Returns:
        None if the action composes nothing from a checkpoint, if another task was typed than the
        checkpoint's, or if there is none that can be read: `check` reports these.
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
        is_whole = "experiment" in others  # which names all parts of a row of a table
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
    """Replace `ckpt=last` by the checkpoint of the newest run that fits what was typed.

    Args:
        known: Composed of the typed choices.
        groups: Typed choices. One that changes values anywhere, such as an experiment, counts as
            typing the task, backbone and data that it leads to.
        values: Typed values.

    Returns:
        The typed values, and a line if there is no such run.
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
    """Give a composed configuration the values of a checkpoint.

    An interpolation of ours stays one if the stored value is what it gave in training: typing
    `recipe.image_size` changes `data.image_size` as well. A typed group that the checkpoint chooses
    otherwise keeps its section.

    Args:
        config: Composed of all choices and of the typed values; is changed.
        known: Composed of all choices.
        adoption: Choices and values that are taken over.
        settings: Typed values, as overrides.

    Raises:
        CheckpointError: if the checkpoint names a class that is not to be trusted.
        OmegaConfBaseException: if a typed value does not fit what is stored.
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
    """Yield unresolved leaves that a typed experiment, ablation or debug config changes."""
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
        path: File of the checkpoint, for the message.
        targets: Names that the command line composes itself.
    """

    path: Path
    targets: frozenset[str]

    def covers(self, target: str) -> bool:
        """Return whether a name may be called."""
        from parcnet_train.targets import is_class_of

        return target in self.targets or is_class_of(target, [PACKAGE])

    def refuse_others(self, key: str, node: Any) -> None:
        """Refuse a value that would call something else.

        Raises:
            CheckpointError: if it would.
        """
        from parcnet_train.targets import named_targets

        for target in named_targets(node):
            if not self.covers(target):
                raise CheckpointError(
                    f"ckpt={self.path}: its {key} is {target}; expected a class of {PACKAGE}. "
                    f"Fix: if you trust the file, name it yourself: {key}._target_={target}"
                )


def trusted_targets(known: DictConfig, typed: Sequence[Override]) -> frozenset[str]:
    """Return the classes and functions that a command line composes or types itself."""
    from parcnet_train.targets import named_targets

    plain = OmegaConf.to_container(known, resolve=False)
    words = [str(each.value()) for each in typed if each.key_or_group.endswith("._target_")]
    return frozenset([*(each for each in named_targets(plain) if "${" not in each), *words])


def filled(key: str, base: Any, value: Any, stored: Mapping[str, Any], trust: Trust) -> Any:
    """Fill a node of a composed configuration with its stored values.

    Args:
        key: Dotted key of the node.
        base: The node as it is composed; None: there is none.
        value: Stored plain value of the node.
        stored: The whole stored configuration.
        trust: Classes that it may name.

    Returns:
        A node or a plain value. Keys that only one of both has are kept: versions differ.

    Raises:
        CheckpointError: if the stored values would call what is not trusted.
    """
    if not isinstance(value, Mapping):
        trust.refuse_others(key, value)
        return value
    target = value.get("_target_")
    if target is not None and not trust.covers(str(target)):
        if key.startswith("recipe."):
            return base  # an optimizer of one's own, say: nothing of it is called in an evaluation
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
    """Return whether a key's interpolation gives its stored value."""
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
    """Return a line for every typed value that differs and changes a result.

    Args:
        values: The adopted configuration, plain.
        stored: Configuration that the checkpoint was trained with.
        overrides: Typed overrides.

    Returns:
        One line per value.
    """
    now, before = flatten(values), flatten(stored.config)
    typed = [
        each.key_or_group
        for each in overrides_of(overrides)
        # Choices of the checkpoint may have been added to those that were typed.
        if each.value() != stored.choices.get(each.key_or_group, each)
    ]
    return [
        f"{key}={value} was typed, and the checkpoint was trained with {before.get(key)}"
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

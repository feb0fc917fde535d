"""`check`: compares a configuration with what the code can take, before anything is built.

To extend it: arguments and their types are read from constructors; a number with a range gets a
row in `config/rules.py`; a fact that joins several parts gets a function, named in `JOINTS`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

from pytorch_lightning.callbacks import Callback

from parcnet_train.build import IMPLIED, SCHEDULED
from parcnet_train.check.actions import (
    wrong_export,
    wrong_input,
    wrong_paths,
    wrong_report,
    wrong_target,
)
from parcnet_train.check.devices import (
    wrong_device,
    wrong_start,
    wrong_strategy,
    wrong_validation,
)
from parcnet_train.check.parts import wrong_data, wrong_finetuning, wrong_network, wrong_task
from parcnet_train.check.weights import wrong_checkpoint, wrong_classes, wrong_pretrained
from parcnet_train.checkpoints.checkpoints import PRETRAINED
from parcnet_train.config.compose import nearest
from parcnet_train.config.keys import MISSING, show, value_of
from parcnet_train.config.rules import REFUSED, RULES, conforms, hints_of, in_words, words_of
from parcnet_train.targets import locate

Config = dict[str, Any]

UNNAMED = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)

# Keys of the parts that have no constructor to be compared with.
KEYS = {
    "": (
        *("action", "backbone", "benchmark", "callbacks", "channels_last", "check", "checkpoint"),
        *(
            "choices",
            "ckpt",
            "compile",
            "data",
            "export",
            "head",
            "input",
            "logger",
            "overrides",
            "paths",
        ),
        *("predict", "profile", "recipe", "report", "seed", "task", "trainer"),
    ),
    "benchmark": (
        *("backbones", "batch_size", "compile", "forms", "image_size", "iterations"),
        *("keep_memory", "repeats", "runtimes", "target", "threads"),
    ),
    "check": ("data",),
    "checkpoint": ("every_minutes", "every_n_steps", "keep_best"),
    "export": (
        *("argmax", "calibration_images", "decode", "dynamic_batch", "float_layers", "format"),
        *("precision", "sensitivity", "size", "verify"),
    ),
    "paths": ("cache", "output", "runs"),
    "predict": ("batch_size", "score_threshold", "top"),
    "profile": ("batch_size", "compare", "image_size", "num_classes"),
    "report": ("runs",),
    "recipe": (
        *("accumulate", "augmentation", "batch_size", "ema", "epochs", "finetuning"),
        *("gradient_clip", "image_size", "label_smoothing", "multi_scale", "optimizer"),
        *("reference_batch", "schedule"),
    ),
    "recipe.epochs": ("at_least", "images"),
    "recipe.augmentation.color_jitter": ("brightness", "contrast", "hue", "saturation"),
    "recipe.augmentation.randaugment": ("magnitude", "operations"),
    "recipe.finetuning": ("freeze_batchnorm", "freeze_stages", "head_lr", "layer_decay"),
    "recipe.mixing": ("cutmix", "mixup"),
}

# By task: keys of recipes that only its own have.
RECIPE_KEYS = {"classification": ("mixing",)}

# Keys that build.py reads itself, whatever a constructor has for them.
NEEDED = {
    "trainer": (
        "accelerator",
        "devices",
        "log_every_n_steps",
        "max_epochs",
        "precision",
        *SCHEDULED,
    )
}

# Parts that build.py makes objects of.
BUILT = (
    *("task", "backbone", "head", "data", "trainer"),
    *("recipe.optimizer", "recipe.schedule", "recipe.augmentation"),
)

# The same, or null.
OPTIONAL = ("recipe.ema", "recipe.multi_scale")

# Arguments that build.py adds to those of a config.
SUPPLIED = {
    "head": {"levels", "num_classes"},
    "recipe.optimizer": {"params"},
    "recipe.schedule": {"position", "max_lr", "reference_batch"},
    "task": {"model", "num_classes", "optimizer", "schedule"},
}

# Keys beside those arguments that build.py keeps for itself.
KEPT = {"backbone": (PRETRAINED,)}


def check(config: Config, borrowed: Collection[str] = (), is_here: bool = True) -> list[str]:
    """Finds every fault of a configuration.

    Args:
        config: plain values, with `choices`; a value may be missing where that was reported.
        borrowed: keys whose faults are reported elsewhere: they interpolate another key, or have no
            value.
        is_here: whether this machine runs it; else nothing is said of its devices.

    Returns:
        One line per fault: its key, what was given, what is allowed.
    """
    faults = [*unknown_keys(config), *wrong_values(config, borrowed)]
    for key, node in nodes(config, borrowed):
        whole = {**IMPLIED.get(key, {}), **node}
        if "_target_" in whole:
            faults += wrong_arguments(key, whole, borrowed)
    faults += wrong_nodes(config, borrowed)
    unset = [key for key in borrowed if value_of(config, key) is MISSING]
    broken = {re.split(r"[.=: ]", line)[0] for line in (*faults, *unset)}
    for find_faults, parts in JOINTS.items():
        if not is_here and find_faults in OF_THIS_MACHINE:
            continue
        if broken.isdisjoint(parts):  # else they would only repeat what was found
            faults += find_faults(config)
    return faults


def nodes(
    config: Config, borrowed: Collection[str], prefix: str = ""
) -> Iterator[tuple[str, Config]]:
    """All nested dicts with their dotted keys, outer ones first."""
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key not in borrowed:
            yield key, value
            yield from nodes(value, borrowed, f"{key}.")


def unknown_keys(config: Config) -> Iterator[str]:
    """Keys that nothing reads."""
    of_task = RECIPE_KEYS.get(value_of(config, "choices.task"), ())
    for part, keys in KEYS.items():
        allowed = (*keys, *of_task) if part == "recipe" else keys
        node = value_of(config, part) if part else config
        for name in node if isinstance(node, dict) else ():
            if name not in allowed:
                key = f"{part}.{name}" if part else name
                yield f"{key}: there is no such key{nearest(name, allowed)}"


def wrong_nodes(config: Config, borrowed: Collection[str]) -> Iterator[str]:
    """Parts that are missing, or are not what build.py makes objects of."""
    for part, keys in (*KEYS.items(), *NEEDED.items()):
        node = value_of(config, part) if part else config
        for name in keys:
            key = f"{part}.{name}" if part else name
            if isinstance(node, dict) and name not in node and key not in borrowed:
                yield f"{key} is missing"
    for key in BUILT:
        node = value_of(config, key)
        if node is not MISSING and not (isinstance(node, dict) and "_target_" in node):
            yield f"{show(key, node)}: allowed is a mapping with a _target_"
    for key in OPTIONAL:
        node = value_of(config, key)
        if node not in (None, MISSING) and not (isinstance(node, dict) and "_target_" in node):
            yield f"{show(key, node)}: allowed is null or a mapping with a _target_"
    for name, node in (config.get("logger") or {}).items():
        if not (isinstance(node, dict) and "_target_" in node):
            yield f"{show(f'logger.{name}', node)}: allowed is a mapping with a _target_"
    for name, node in (config.get("callbacks") or {}).items():
        key = f"callbacks.{name}"
        if node is not None:
            implied = IMPLIED.get(key, {}) if isinstance(node, dict) else {}
            yield from wrong_callback(key, {**implied, **node} if implied else node)


def wrong_callback(key: str, node: Any) -> Iterator[str]:
    """A part of the group `callbacks` that names no callback."""
    if not (isinstance(node, dict) and "_target_" in node):
        yield f"{show(key, node)}: expected null or a mapping with a _target_"
        return
    target = locate(node)
    if inspect.isclass(target) and not issubclass(target, Callback):
        yield (
            f"{key}._target_={node['_target_']}: {target.__name__} is no callback; expected a "
            "subclass of pytorch_lightning.Callback"
        )


def wrong_values(config: Config, borrowed: Collection[str]) -> Iterator[str]:
    """Values outside their range."""
    for key, rule in RULES.items():
        value = value_of(config, key)
        if value is not MISSING and key not in borrowed and not rule.accepts(value):
            yield f"{show(key, value)}: allowed is {rule.words}{nearest(str(value), rule.allowed)}"


def wrong_arguments(key: str, node: Config, borrowed: Collection[str]) -> Iterator[str]:
    """Arguments of a `_target_` that it does not take, lacks, or takes of another type."""
    target = locate(node)
    if target is None:
        yield f"{key}._target_={node['_target_']}: there is no such class or function"
        return
    parameters = inspect.signature(target).parameters
    kinds = {name: parameter.kind for name, parameter in parameters.items()}
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds.values()
    names = [name for name, kind in kinds.items() if kind not in UNNAMED]
    hints = hints_of(target)
    kept = KEPT.get(key, ())
    given = [name for name in node if name not in ("_target_", "_partial_", *kept)]
    for name in given:
        argument = f"{key}.{name}"
        if argument in REFUSED:
            yield f"{show(argument, node[name])}: {REFUSED[argument]}"
            continue
        # Where any name would do, one very near to a declared name is still a slip.
        meant = nearest(name, [*names, *kept], cutoff=0.8 if takes_any else 0.75)
        if name not in names and (meant or not takes_any):
            yield f"{argument}: {shorten(target)} takes no such argument{meant}"
        elif argument not in borrowed and (
            # A rule stands for the type, but of the length of a list it says nothing.
            argument not in RULES
            or (isinstance(node[name], list) and RULES[argument].accepts(node[name]))
        ):
            hint = hints.get(name, Any)
            if not conforms(node[name], hint):
                yield f"{show(argument, node[name])}: allowed is {in_words(hint)}" + nearest(
                    str(node[name]), words_of(hint)
                )
    for name in names:
        needed = parameters[name].default is inspect.Parameter.empty
        expected = needed and name not in SUPPLIED.get(key, ()) and f"{key}.{name}" not in borrowed
        if expected and name not in given:
            yield f"{key}.{name} is missing; {shorten(target)} needs it"


def shorten(target: Any) -> str:
    """Name of a class or function."""
    return str(getattr(target, "__name__", target))


# What joins several parts, with those parts: looked at where none of them has a fault of its own.
JOINTS: dict[Callable[[Config], Iterator[str]], tuple[str, ...]] = {
    wrong_paths: ("paths",),
    wrong_network: ("backbone", "head", "recipe", "profile", "benchmark", "export"),
    wrong_finetuning: ("backbone", "recipe", "action"),
    wrong_export: ("action", "export", "task"),
    wrong_target: ("action", "benchmark", "task"),
    wrong_report: ("action", "paths", "report"),
    wrong_task: ("data", "head", "task"),
    wrong_input: ("input", "action", "paths"),
    wrong_data: ("data", "recipe", "action", "benchmark", "check"),
    wrong_checkpoint: ("backbone", "head", "paths", "ckpt", "action"),
    wrong_classes: ("data", "recipe", "paths", "ckpt", "action"),
    wrong_pretrained: ("backbone", "ckpt", "action"),
    wrong_device: ("trainer",),
    wrong_strategy: ("trainer",),
    wrong_validation: ("trainer",),
    wrong_start: ("trainer", "action"),
}

OF_THIS_MACHINE = (wrong_device, wrong_start)

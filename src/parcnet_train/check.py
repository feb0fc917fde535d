"""`check`: compares a configuration with what the code can take, before anything is built.

To extend it: arguments and their types are read from constructors; a number with a range gets a
row in `rules.py`; a fact that joins several parts gets a function, named in `JOINTS`.
"""

from __future__ import annotations

import inspect
import os
import platform
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch

from parcnet_train.build import (
    PRETRAINED,
    build_backbone,
    build_data,
    build_model,
    height_and_width,
    make,
    meta_device,
)
from parcnet_train.check_devices import wrong_device, wrong_start, wrong_strategy
from parcnet_train.check_weights import wrong_checkpoint, wrong_classes, wrong_pretrained
from parcnet_train.config import nearest
from parcnet_train.deploy.formats import FORMATS
from parcnet_train.errors import ConfigError, DataError
from parcnet_train.predict.inputs import ALLOWED, STDIN, find_images
from parcnet_train.rules import BATCH, RULES, conforms, hints_of, in_words, locate, show, words_of
from parcnet_train.runs import OF_CHECKPOINTS, WITHOUT_DATA, reads_data

Config = dict[str, Any]

MISSING: Any = object()
UNNAMED = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)

# Keys of the parts that have no constructor to be compared with.
KEYS = {
    "": (
        *("action", "backbone", "benchmark", "channels_last", "check", "checkpoint", "choices"),
        *("ckpt", "compile", "data", "export", "head", "input", "logger", "overrides", "paths"),
        *("predict", "profile", "recipe", "report", "seed", "task", "trainer"),
    ),
    "benchmark": (
        *("backbones", "batch_size", "compile", "forms", "image_size", "iterations"),
        *("keep_memory", "repeats", "runtimes", "target", "threads"),
    ),
    "check": ("data",),
    "checkpoint": ("every_minutes", "every_n_steps", "keep_best"),
    "export": ("argmax", "decode", "dynamic_batch", "format", "size", "verify"),
    "paths": ("cache", "output", "runs"),
    "predict": ("batch_size", "score_threshold", "top"),
    "profile": ("batch_size", "compare", "image_size", "num_classes"),
    "report": ("runs",),
    "recipe": (
        *("accumulate", "augmentation", "batch_size", "ema", "epochs", "finetuning"),
        *("gradient_clip", "image_size", "label_smoothing", "multi_scale", "optimizer"),
        *("reference_batch", "schedule"),
    ),
    "recipe.augmentation.color_jitter": ("brightness", "contrast", "hue", "saturation"),
    "recipe.augmentation.randaugment": ("magnitude", "operations"),
    "recipe.finetuning": ("freeze_batchnorm", "freeze_stages", "head_lr", "layer_decay"),
    "recipe.mixing": ("cutmix", "mixup"),
}

# By task: keys of recipes that only its own have.
RECIPE_KEYS = {"classification": ("mixing",)}

# By target of a benchmark: the task that it measures; the others measure any.
MEASURED = {
    "detection": "detection",
    "latency": "classification",
    "loader": "classification",
    "overhead": "classification",
    "train_step": "classification",
}

# Keys that build.py reads itself, whatever a constructor has for them.
NEEDED = {"trainer": ("accelerator", "devices", "log_every_n_steps", "precision")}

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
        if "_target_" in node:
            faults += wrong_arguments(key, node, borrowed)
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


def value_of(config: Config, key: str) -> Any:
    """The value under a dotted key, `MISSING` where there is none."""
    value: Any = config
    for name in key.split("."):
        value = value.get(name, MISSING) if isinstance(value, dict) else MISSING
    return value


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


def wrong_paths(config: Config) -> Iterator[str]:
    """Folders that cannot be written to."""
    for key in ("paths.runs", "paths.cache"):
        path = value_of(config, key)
        if not isinstance(path, str) or not path:
            yield f"{show(key, path)}: allowed is the path of a folder"
            continue
        folder = Path(path).expanduser().absolute()
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            yield f"{show(key, path)}: {folder} is not a folder that can be written to"


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
        # Where any name would do, one very near to a declared name is still a slip.
        meant = nearest(name, [*names, *kept], cutoff=0.8 if takes_any else 0.6)
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


def wrong_network(config: Config) -> Iterator[str]:
    """Backbone and head that refuse their arguments, or images of the size that is wanted."""
    # Of a checkpoint's network alone, or of results alone.
    if config["action"] in (*OF_CHECKPOINTS, "report"):
        return
    try:
        with meta_device():
            model = build_model(config, num_classes=2).eval()
    except Exception as error:  # whatever a constructor raises is about its arguments
        yield f"backbone, head: {first_line(error)}"
        return
    key = size_key(config)
    size = value_of(config, key)
    lengths = size if isinstance(size, list) else [size, size]
    stride = max(level.stride for level in model.backbone.levels)
    if any(length % stride for length in lengths):
        yield (
            f"{show(key, size)}: allowed are multiples of {stride}, the last "
            f"stride of backbone={config['choices']['backbone']}; near are "
            + ", ".join(str(max(1, round(n / stride)) * stride) for n in dict.fromkeys(lengths))
        )
        return
    try:
        with torch.no_grad():
            model(torch.empty(1, 3, *lengths, device="meta"))
    except Exception as error:  # whatever a network raises here is about shapes
        yield f"backbone, head at {show(key, size)}: {first_line(error)}"
    yield from wrong_scales(config, stride)


def size_key(config: Config) -> str:
    """The key of the size of the images that an action takes."""
    action = value_of(config, "action")
    if action == "export" and value_of(config, "export.size") is not None:
        return "export.size"
    return f"{action if action in WITHOUT_DATA else 'recipe'}.image_size"


def wrong_export(config: Config) -> Iterator[str]:
    """What a format or a task cannot be exported to."""
    settings, task = config["export"], config["choices"]["task"]
    if config["action"] != "export":
        return
    if settings["argmax"] and task != "segmentation":
        yield f"export.argmax=true: allowed with task=segmentation, not with task={task}"
    if settings["decode"] and task != "detection":
        yield f"export.decode=true: allowed with task=detection, not with task={task}"
    form, decoding = settings["format"], [k for k, v in FORMATS.items() if v.decodes]
    system = platform.system()
    if settings["decode"] and form not in decoding:
        yield f"export.decode=true: allowed with export.format={'|'.join(decoding)}, not {form}"
    if settings["verify"] != "none" and FORMATS[form].macos_only and system != "Darwin":
        yield (
            f"export.verify={settings['verify']}: only macOS runs files of export.format={form}, "
            f"and this is {system}; use export.verify=none"
        )
    if settings["verify"] == "metric" and (settings["argmax"] or settings["decode"]):
        yield (
            "export.verify=metric: the metric is made of logits, which a file with "
            "export.argmax=true or export.decode=true does not give; use export.verify=outputs"
        )


def wrong_scales(config: Config, stride: int) -> Iterator[str]:
    """Sizes of a multi-scale training that the network cannot take, or too few images of one."""
    node, recipe = value_of(config, "recipe.multi_scale"), config["recipe"]
    if not isinstance(node, dict) or config["action"] in WITHOUT_DATA:
        return
    scales = make(node).scales(height_and_width(recipe["image_size"]), recipe["batch_size"], 1)
    if any(length % stride for scale in scales for length in scale.size):
        yield (
            f"{show('recipe.multi_scale.divisor', node.get('divisor'))}: allowed are multiples of "
            f"{stride}, the last stride of backbone={config['choices']['backbone']}"
        )
    least = min(scales, key=lambda scale: scale.batch_size)
    if not BATCH.accepts(least.batch_size):
        height, width = least.size
        yield (
            f"recipe.batch_size={recipe['batch_size']}: with "
            f"recipe.multi_scale.rule={node.get('rule')} a step takes {least.batch_size} of "
            f"{height}x{width} pixels; allowed is {BATCH.words}. Raise recipe.batch_size, or use "
            "recipe.multi_scale.rule=released"
        )


def wrong_finetuning(config: Config) -> Iterator[str]:
    """More stages to freeze than the backbone has."""
    stages = config["recipe"]["finetuning"]["freeze_stages"]
    if stages in (0, "all") or config["action"] in WITHOUT_DATA:
        return
    try:
        with meta_device():
            count = len(build_backbone(config).levels)
    except ConfigError:  # `wrong_network` tells
        return
    if stages > count:
        yield (
            f"{show('recipe.finetuning.freeze_stages', stages)}: allowed are 0 to {count}, the "
            f"stages of backbone={config['choices']['backbone']}, or all"
        )


def task_of(part: str, config: Config) -> str:
    """The task that a head or data module is for; one that does not tell is for any."""
    return getattr(locate(config[part]), "task", config["choices"]["task"])


def wrong_task(config: Config) -> Iterator[str]:
    """A head or data of another task."""
    task = config["choices"]["task"]
    for part in ("head", "data") if reads_data(config) else ("head",):
        if (other := task_of(part, config)) != task:
            choice = config["choices"][part]
            yield f"{part}={choice}: allowed with task={other}, not with task={task}"


def wrong_data(config: Config) -> Iterator[str]:
    """Data folders that are not there, or hold other classes than expected; on request, files."""
    is_full = config["action"] == "check" and config["check"]["data"] == "full"
    writes_root = getattr(locate(config["data"]), "writes_root", False)
    if not reads_data(config) or (writes_root and not is_full):
        return
    if task_of("data", config) != config["choices"]["task"]:  # `wrong_task` tells
        return
    # What is to be checked is a training.
    action = "fit" if config["action"] == "check" else config["action"]
    try:
        data = build_data(config)
        data.check_files(action)
        if is_full:
            data.check_every_file()
    except (DataError, ConfigError) as error:
        yield from str(error).splitlines()


def wrong_report(config: Config) -> Iterator[str]:
    """A report of a folder that is not there."""
    runs = config["report"]["runs"]
    for folder in runs if isinstance(runs, list) else [runs or "."]:
        if config["action"] == "report" and not Path(folder).expanduser().is_dir():
            yield f"report.runs={folder}: there is no such folder; name one that holds runs"


def wrong_target(config: Config) -> Iterator[str]:
    """A benchmark of another task."""
    target, task = config["benchmark"]["target"], config["choices"]["task"]
    measured = MEASURED.get(target, task)
    if config["action"] == "benchmark" and task != measured:
        yield f"benchmark.target={target}: allowed with task={measured}, not with task={task}"


def wrong_input(config: Config) -> Iterator[str]:
    """Images that are needed or named, and are not there or for nothing."""
    given, action = config["input"], config["action"]
    if action != "predict":
        if given is not None:
            yield f"input={given}: action={action} reads none; leave it out, or add action=predict"
    elif given is None:
        yield f"input has no value; action=predict needs one: {ALLOWED}"
    elif given != STDIN:  # which can be read once
        try:
            find_images(given, Path(config["paths"]["runs"]))
        except DataError as error:
            yield str(error)


def first_line(error: Exception) -> str:
    """What an error says, or what it is called where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


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
    wrong_start: ("trainer", "action"),
}

OF_THIS_MACHINE = (wrong_device, wrong_start)

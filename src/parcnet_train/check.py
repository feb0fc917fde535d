"""`check`: compares a configuration with what the code can take, before anything is built.

To extend it: arguments and their types are read from constructors; a number with a range gets a
row in `rules.py`; a fact that joins two parts gets a function in the list that `check` goes
through.
"""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import torch

from parcnet_train.build import build_model, meta_device
from parcnet_train.config import nearest
from parcnet_train.errors import CheckpointError
from parcnet_train.rules import RULES, conforms, hints_of, in_words, words_of
from parcnet_train.runs import checkpoint_of

Config = dict[str, Any]

MISSING: Any = object()
UNNAMED = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)

# Keys of the parts that have no constructor to be compared with.
KEYS = {
    "": (
        *("action", "backbone", "channels_last", "choices", "ckpt", "compile", "data", "head"),
        *("logger", "paths", "recipe", "seed", "task", "trainer"),
    ),
    "paths": ("cache", "output", "runs"),
    "recipe": (
        *("accumulate", "augmentation", "batch_size", "ema", "epochs", "gradient_clip"),
        *("image_size", "label_smoothing", "optimizer", "schedule"),
    ),
}

# Arguments that build.py adds to those of a config.
SUPPLIED = {
    "head": {"levels", "num_classes"},
    "recipe.optimizer": {"params"},
    "recipe.schedule": {"step", "max_lr", "total_steps"},
    "task": {"model", "num_classes", "optimizer", "schedule"},
}


def check(config: Config, borrowed: Container[str] = ()) -> list[str]:
    """Finds every fault of a configuration.

    Args:
        config: plain values, with `choices`; a value may be missing where that was reported.
        borrowed: keys that interpolate another one, under which their fault is reported.

    Returns:
        One line per fault: its key, what was given, what is allowed.
    """
    faults = [*unknown_keys(config), *wrong_values(config, borrowed)]
    for key, node in nodes(config, borrowed):
        if "_target_" in node:
            faults += wrong_arguments(key, node, borrowed)
    for find_faults in (wrong_network, wrong_data, wrong_checkpoint, wrong_device):
        faults += find_faults(config)
    return faults


def nodes(
    config: Config, borrowed: Container[str], prefix: str = ""
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
    for part, allowed in KEYS.items():
        for name in value_of(config, part) if part else config:
            if name not in allowed:
                key = f"{part}.{name}" if part else name
                yield f"{key}: there is no such key{nearest(name, allowed)}"


def wrong_values(config: Config, borrowed: Container[str]) -> Iterator[str]:
    """Values outside their range."""
    for key, rule in RULES.items():
        value = value_of(config, key)
        if value is not MISSING and key not in borrowed and not rule.accepts(value):
            yield f"{show(key, value)}: allowed is {rule.words}{nearest(str(value), rule.allowed)}"


def wrong_arguments(key: str, node: Config, borrowed: Container[str]) -> Iterator[str]:
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
    given = [name for name in node if name not in ("_target_", "_partial_")]
    for name in given:
        argument = f"{key}.{name}"
        # Where any name would do, one very near to a declared name is still a slip.
        meant = nearest(name, names, cutoff=0.8 if takes_any else 0.6)
        if name not in names and (meant or not takes_any):
            yield f"{argument}: {shorten(target)} takes no such argument{meant}"
        elif argument not in RULES and argument not in borrowed:
            hint = hints.get(name, Any)
            if not conforms(node[name], hint):
                yield f"{show(argument, node[name])}: allowed is {in_words(hint)}" + nearest(
                    str(node[name]), words_of(hint)
                )
    for name in names:
        needed = parameters[name].default is inspect.Parameter.empty
        if needed and name not in given and name not in SUPPLIED.get(key, ()):
            yield f"{key}.{name} is missing; {shorten(target)} needs it"


def wrong_network(config: Config) -> Iterator[str]:
    """Backbone and head that refuse their arguments, images that do not fit their strides."""
    if not all("_target_" in (config.get(part) or {}) for part in ("backbone", "head")):
        return
    try:
        with meta_device():
            levels = build_model(config, num_classes=2).backbone.levels
    except Exception as error:  # whatever a constructor raises is about its arguments
        cause = error.__cause__ or error
        yield f"backbone, head: {str(cause).splitlines()[0]}"
        return
    size = value_of(config, "recipe.image_size")
    stride = levels[-1].stride
    lengths = size if isinstance(size, list) else [size]
    if all(isinstance(length, int) for length in lengths) and any(n % stride for n in lengths):
        yield (
            f"{show('recipe.image_size', size)}: allowed are multiples of {stride}, the last "
            f"stride of backbone={config['choices']['backbone']}; near are "
            + ", ".join(str(max(1, round(n / stride)) * stride) for n in lengths)
        )


def wrong_data(config: Config) -> Iterator[str]:
    """A data folder that is not there."""
    root = value_of(config, "data.root")
    target = locate(config.get("data") or {})
    if not isinstance(root, str) or target is None or Path(root).expanduser().is_dir():
        return
    if not vars(target).get("writes_root", False):
        yield (
            f"data.root={root}: there is no such folder; allowed is one that holds a folder for "
            "training and one for validation (data.train_dir, data.val_dir)"
        )


def wrong_checkpoint(config: Config) -> Iterator[str]:
    """A checkpoint that is needed or named, and not there."""
    if config.get("ckpt") is None:
        if config.get("action") == "test":
            yield "ckpt has no value; action=test needs one: last, a checkpoint file, or a run"
        return
    try:
        checkpoint_of(config)
    except CheckpointError as error:
        yield str(error)


def wrong_device(config: Config) -> Iterator[str]:
    """Devices and precisions that this machine does not have."""
    accelerator = value_of(config, "trainer.accelerator")
    devices = value_of(config, "trainer.devices")
    count = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and not count:
        yield (
            f"trainer.accelerator={accelerator}: torch {torch.__version__} sees no GPU here; "
            "use trainer.accelerator=cpu, or install a CUDA build of torch and its driver"
        )
    elif count and accelerator != "cpu" and isinstance(devices, int) and devices > count:
        yield f"trainer.devices={devices}: this machine has {count}; allowed are 1 to {count}"
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not count)
    if on_cpu and value_of(config, "trainer.precision") == "16-mixed":
        yield "trainer.precision=16-mixed needs a GPU; use 32-true or bf16-mixed on a CPU"


def locate(node: Config) -> Any:
    """The class or function of a `_target_`, None where there is none."""
    try:
        target = pydoc.locate(str(node.get("_target_")))
    except pydoc.ErrorDuringImport:
        return None
    return target if callable(target) else None


def show(key: str, value: Any) -> str:
    """Key and value as one types them."""
    return f"{key}={'null' if value is None else str(value).replace(' ', '')}"


def shorten(target: Any) -> str:
    """Name of a class or function."""
    return str(getattr(target, "__name__", target))

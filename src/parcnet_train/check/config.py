"""Check of a whole configuration, before anything is built.

`config/schema.py` checks keys, types and ranges, which constructors and the modules `sections` of
`config/` define. This module adds checks of classes that the schema files do not contain, and
checks that involve several sections, each a function listed in `JOINTS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from pytorch_lightning.callbacks import Callback

from parcnet_train.check.actions import (
    wrong_export,
    wrong_input,
    wrong_packages,
    wrong_paths,
    wrong_target,
)
from parcnet_train.check.augmentation import wrong_extra
from parcnet_train.check.devices import (
    wrong_device,
    wrong_global_batch,
    wrong_start,
    wrong_strategy,
    wrong_validation,
)
from parcnet_train.check.optimizer import KEY as OPTIMIZER
from parcnet_train.check.optimizer import unfit_class, wrong_optimizer
from parcnet_train.check.parts import (
    wrong_channels,
    wrong_data,
    wrong_detections,
    wrong_evaluated_classes,
    wrong_finetuning,
    wrong_mixing,
    wrong_network,
    wrong_passing,
    wrong_split,
    wrong_task,
    wrong_weighting,
)
from parcnet_train.check.quick import wrong_report
from parcnet_train.check.weights import (
    wrong_checkpoint,
    wrong_classes,
    wrong_pretrained,
    wrong_results,
    wrong_teacher,
)
from parcnet_train.config.compose import RECORDED, SCHEMA, schema_of_target
from parcnet_train.config.generate import schema_of
from parcnet_train.config.keys import MISSING, value_of
from parcnet_train.config.schema import faults_of, read_schema
from parcnet_train.config.sections import IMPLIED
from parcnet_train.errors import Fault
from parcnet_train.targets import locate

Config = dict[str, Any]


def check(
    config: Config,
    borrowed: Collection[str] = (),
    is_here: bool = True,
    reads_files: bool = True,
) -> list[Fault]:
    """Find every fault of a configuration.

    Args:
        config: Plain values, with `choices`. A value may be missing if that is already reported.
        borrowed: Keys whose faults are reported elsewhere: they interpolate another key, or have no
            value.
        is_here: Whether this machine runs it; if not, its devices are not checked.
        reads_files: Whether the files of the data are checked.

    Returns:
        The faults, each with its key, what was given and what is expected.
    """
    whole = {name: value for name, value in config.items() if name not in RECORDED}
    faults = [
        *faults_of(whole, read_schema(SCHEMA), schema_of_any, borrowed),
        *wrong_classes_of(whole, borrowed),
    ]
    if unfit := list(unfit_class(config)):  # no arguments help, so theirs are not reported
        faults = [fault for fault in faults if not fault.key.startswith(OPTIMIZER)] + unfit
    unset = [key for key in borrowed if value_of(config, key) is MISSING]
    broken = {key.split(".")[0] for key in (*(fault.key for fault in faults), *unset)}
    if "action" in broken:  # everything else depends on it
        return faults
    for find_faults, parts in JOINTS.items():
        if not is_here and find_faults in OF_THIS_MACHINE:
            continue
        if not reads_files and find_faults in OF_FILES:
            continue
        if broken.isdisjoint(parts):  # otherwise, it might only report the same fault again
            faults += find_faults(config)
    return faults


def schema_of_any(name: str) -> Mapping[str, Any] | None:
    """Return the schema of a `_target_`, made from its constructor unless `conf/` names it."""
    if (known := schema_of_target(name)) is not None:
        return known
    target = locate({"_target_": name})
    return None if target is None else schema_of(target, name)


def nodes(
    config: Config, borrowed: Collection[str], prefix: str = ""
) -> Iterator[tuple[str, Config]]:
    """Yield all nested mappings with their dotted keys, outer ones first."""
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key not in borrowed:
            yield key, value
            yield from nodes(value, borrowed, f"{key}.")


def wrong_classes_of(config: Config, borrowed: Collection[str]) -> Iterator[Fault]:
    """Report each `_target_` that does not exist, or is not a callback but is used as one."""
    for key, node in nodes(config, borrowed):
        name = node.get("_target_", IMPLIED.get(key))
        if name is None:
            continue
        target = locate({"_target_": name})
        if target is None:
            yield Fault(key, f"{key}._target_={name}: this class or function does not exist")
        elif (
            key.startswith("callbacks.")
            and inspect.isclass(target)
            and not issubclass(target, Callback)
        ):
            yield Fault(
                key,
                f"{key}._target_={name}: {target.__name__} is not a callback; expected a subclass "
                "of pytorch_lightning.Callback",
            )


# Checks that involve several sections; each runs only if none of its sections has a fault already.
JOINTS: dict[Callable[[Config], Iterator[Fault]], tuple[str, ...]] = {
    wrong_paths: ("paths",),
    wrong_network: ("backbone", "head", "recipe", "profile", "benchmark", "export"),
    wrong_finetuning: ("backbone", "recipe", "action"),
    wrong_extra: ("recipe", "task", "action"),
    wrong_weighting: ("recipe", "task"),
    wrong_passing: ("data", "recipe", "task", "action"),
    wrong_mixing: ("recipe", "task"),
    wrong_channels: ("data", "recipe", "action", "benchmark", "export"),
    wrong_optimizer: ("recipe", "action"),
    wrong_export: ("action", "export", "task"),
    wrong_packages: ("action", "export"),
    wrong_target: ("action", "benchmark", "export", "task"),
    wrong_report: ("action", "paths", "report"),
    wrong_evaluated_classes: ("action", "task"),
    wrong_task: ("data", "head", "task"),
    wrong_detections: ("task",),
    wrong_input: ("input", "action", "paths"),
    wrong_split: ("data", "action", "benchmark", "export"),
    wrong_data: ("data", "recipe", "task", "action", "benchmark", "check"),
    wrong_checkpoint: ("backbone", "head", "paths", "ckpt", "action"),
    wrong_classes: ("data", "recipe", "task", "paths", "ckpt", "action"),
    wrong_pretrained: ("backbone", "ckpt", "action"),
    wrong_results: ("action", "ckpt", "paths", "release"),
    wrong_teacher: ("backbone", "recipe", "task", "action"),
    wrong_device: ("trainer",),
    wrong_global_batch: ("recipe", "trainer", "action"),
    wrong_strategy: ("trainer",),
    wrong_validation: ("trainer",),
    wrong_start: ("trainer", "action"),
}

OF_THIS_MACHINE = (wrong_device, wrong_global_batch, wrong_start, wrong_packages)
OF_FILES = (wrong_data, wrong_classes)

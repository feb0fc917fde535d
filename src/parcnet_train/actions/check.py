"""Faults of a configuration, before anything runs, and the action that only looks for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig

from parcnet_train.check.quick import wrong_action
from parcnet_train.config.compose import (
    PlainConfig,
    choices,
    compose_config,
    to_plain,
    typed_faults,
)
from parcnet_train.config.keys import show
from parcnet_train.config.overrides import sweeps
from parcnet_train.errors import ConfigError, Fault
from parcnet_train.runs.actions import action_of
from parcnet_train.sweeps.grid import Jobs, jobs_of

OURS = "processes"  # among the choices of hydra/launcher


def refuse_faults(
    plain: PlainConfig,
    faults: Sequence[Fault] = (),
    is_here: bool = True,
    reads_files: bool = True,
) -> None:
    """Raise all faults of a configuration at once.

    Args:
        plain: Configuration to check.
        faults: Faults that were found before.
        is_here: Whether this machine runs it.
        reads_files: Whether the files of the data are checked.

    Raises:
        ConfigError: If there are any.
    """
    if plain.values.get("action") == "schema":  # renews what keys and values are compared with
        if faults:
            raise ConfigError(faults)
        return
    # A key whose override was left out may have no value for that reason alone.
    named = {fault.key for fault in faults}
    if plain.values.get("action") != "check":  # which is asked for all faults, whatever they take
        quick = [*faults, *(fault for fault in typed_faults(plain) if fault.key not in named)]
        if quick:
            raise ConfigError(quick)
        action = action_of(plain.values["action"])
        if action is not None and action.quick:
            if wrong := list(wrong_action(plain.values)):
                raise ConfigError(wrong)
            return
    from parcnet_train.check.config import check  # torch: seconds

    of_values = [fault for fault in plain.faults if fault.key not in named]
    found = [*faults, *of_values, *check(plain.values, plain.borrowed, is_here, reads_files)]
    if found:
        raise ConfigError(found)


def check_jobs(
    overrides: Sequence[str],
    config_dir: str | None,
    is_sweep: bool,
    first: DictConfig,
    faults: Sequence[Fault],
) -> dict[str, Any]:
    """Check every configuration of a command, and print how many there are.

    Args:
        overrides: Overrides of the command.
        config_dir: Folder of your own configs beside the package's.
        is_sweep: Whether the command runs several configurations.
        first: The first of them, with its `hydra` node.
        faults: Faults that were found before, in the first one or the command.

    Returns:
        `configurations`: the number of those that were checked.

    Raises:
        ConfigError: If any of them has a fault.
    """
    launcher = first.hydra.runtime.choices["hydra/launcher"]
    is_here = not is_sweep or launcher in ("basic", OURS)
    jobs = jobs_of(is_sweep, overrides, first.hydra, config_dir)
    found: dict[Fault, list[str]] = {}  # names of the jobs with each fault
    seen: list[Any] = []  # data whose files were read
    is_composed = jobs.count == 1
    for name, of_job in jobs.overrides.items():
        try:
            config, wrong = (first, faults) if is_composed else compose_config(of_job, config_dir)
            plain = to_plain(config, choices(config.hydra))
            data = {**plain.values.get("data", {}), "seed": None}
            if data in seen and plain.values["check"]["data"] == "full":
                plain.values["check"]["data"] = "sample"
            seen.append(data)
            refuse_faults(plain, [*wrong, *wrong_examination(plain.values["check"])], is_here)
        except ConfigError as error:
            for fault in error.faults:
                found.setdefault(fault, []).append(name)
    lines = [*faults, *(told(*each, jobs) for each in found.items() if each[0] not in faults)]
    if lines and not is_sweep:
        lines += sweeps(overrides)
    if lines:
        raise ConfigError(list(dict.fromkeys(lines)))
    shown = " ".join(f"{k}={v}" for k, v in plain.values["choices"].items() if v)
    if jobs.count > 1:
        shown = f"{len(jobs.overrides):,} of {jobs.count:,} configurations checked"
        shown += "" if is_sweep else "; -m runs them"
    print(f"no faults: {shown}")
    return {"configurations": len(jobs.overrides)}


def wrong_examination(settings: dict[str, Any]) -> Iterator[Fault]:
    """Report what only a check of a single configuration does: it writes a report."""
    for key, is_given, fix in (
        ("data", settings.get("data") == "headers", "check.data=full"),
        ("predictions", settings.get("predictions") is not None, "check.predictions=null"),
    ):
        if is_given:
            yield Fault(
                f"check.{key}",
                f"{show(f'check.{key}', settings[key])}: a check of several configurations does "
                f"not support it; expected a single configuration. Fix: {fix}, or give one value "
                "per key",
            )


def told(fault: Fault, names: Sequence[str], jobs: Jobs) -> Fault:
    """Add the jobs of a sweep that have a fault to its message, unless all have it."""
    if len(names) == len(jobs.overrides):
        return fault
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return Fault(fault.key, f"{fault} (in {names[0]}{others})")

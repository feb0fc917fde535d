"""What a configuration has of sweeps: their keys, the names of their jobs, their faults."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from parcnet_train.config import CONF, GROUPS, choices, to_plain
from parcnet_train.config_overrides import (
    EMPTY,
    is_empty,
    options_of,
    overrides_of,
    searchpath,
    typed,
)
from parcnet_train.runs import config_hash, run_dir

WORDS = 80  # characters of a job's directory in front of its hash


def register_resolvers() -> None:
    """Makes `${run_dir:...}` and what names a sweep and its jobs known to configs.

    The first answers the same all through a process.
    """
    OmegaConf.register_new_resolver("run_dir", run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("sweep_dir", sweep_dir, replace=True)
    OmegaConf.register_new_resolver("job_dir", job_dir, replace=True)


def sweep_dir(runs: str, name: str | None) -> str:
    """The directory of a sweep.

    Args:
        runs: root of all runs.
        name: chosen under `sweep`, None for one of the command line alone.
    """
    return str(Path(f"{runs}/sweeps/{name or 'multirun'}").expanduser())


def job_dir(*swept: str, _root_: DictConfig) -> str:
    """The directory of a job in that of its sweep: the same in every later start.

    Args:
        swept: keys whose values name it; the hash of the configuration tells it apart.
    """
    words = words_of_job(typed(_root_.hydra), swept)
    identity = config_hash(to_plain(_root_, choices(_root_.hydra)).values)
    # Of other words where an earlier sweep had other keys.
    earlier = sorted(Path(_root_.hydra.sweep.dir).glob(f"*{identity}"))
    return earlier[0].name if earlier else "-".join([*words, identity])


def words_of_job(overrides: Sequence[str], swept: Sequence[str]) -> list[str]:
    """What a job has of the swept keys, as part of a path: one word, or none."""
    words = []
    for override in overrides_of(overrides):
        key = override.key_or_group
        if key in swept:
            text = override.get_value_element_as_str()
            value = re.sub(r"[^A-Za-z0-9._]+", "-", text).rstrip("-.")
            words.append(value if key in GROUPS else f"{key.rsplit('.', 1)[-1]}-{value}")
    return ["_".join(words)[:WORDS]] if words else []


def swept_keys(overrides: Sequence[str], hydra_config: Any) -> list[str]:
    """The keys that differ between the jobs of a sweep.

    Args:
        overrides: of the whole command.
        hydra_config: the `hydra` node of its configuration, whose sweeper may name more.
    """
    typed = [each.key_or_group for each in overrides_of(overrides) if each.is_sweep_override()]
    return list(dict.fromkeys([*params_of(hydra_config), *typed]))


def params_of(hydra_config: Any) -> dict[str, Any]:
    """What the sweeper sweeps over beside the command line: `hydra.sweeper.params`."""
    params = hydra_config.sweeper.get("params")
    return {} if params is None else dict(OmegaConf.to_container(params))  # type: ignore[arg-type]


def wrong_sweep(
    is_sweep: bool, overrides: Sequence[str], hydra_config: Any, config_dir: str | None = None
) -> list[str]:
    """What makes no sweep of a command.

    Args:
        is_sweep: several runs are wanted.
        overrides: of the whole command.
        hydra_config: the `hydra` node of its configuration.
        config_dir: a folder of configs beside ours.
    """
    names = [each for each in overrides_of(overrides) if each.key_or_group == "sweep"]
    several = [each.input_line for each in names if each.is_sweep_override()]
    if several:
        return [f"{several[0]}: allowed is one sweep; start one command for each"]
    chosen = hydra_config.runtime.choices.get("sweep")
    if not is_sweep:
        way_out = f"sweep={chosen} is several runs: python -m parcnet_train -m sweep={chosen} ..."
        return [way_out] if chosen is not None else []
    params = [f"{key}={value}" for key, value in params_of(hydra_config).items()]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        paths = searchpath(overrides, config_dir)
        return [
            f"hydra.sweeper.params: {override.input_line} {EMPTY}"
            for override in overrides_of(params)
            if is_empty(override, options_of(override, paths))
        ]

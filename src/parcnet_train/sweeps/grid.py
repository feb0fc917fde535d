"""Sweeps in a configuration: swept keys, names of the jobs, and faults."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import omegaconf
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from packaging.version import Version

from parcnet_train.config.compose import CONF, GROUPS, choices, to_plain
from parcnet_train.config.overrides import (
    EMPTY,
    is_empty,
    options_of,
    overrides_of,
    searchpath,
    typed,
    values_of,
)
from parcnet_train.errors import Fault
from parcnet_train.runs.directories import SWEEPS, config_hash, run_dir

MOST = 50  # jobs of a sweep that are checked, since each takes seconds
WORDS = 80  # characters of a job's directory before its hash


def register_resolvers() -> None:
    """Register the resolvers `run_dir`, `sweep_dir` and `job_dir` for configs.

    `run_dir` returns the same directory throughout a process.
    """
    # OmegaConf 2.4, that of Hydra 1.4, warns about the old name. Earlier ones have another function
    # under the new name.
    is_renamed = Version(omegaconf.__version__) >= Version("2.4")
    register: Any = getattr(OmegaConf, f"register_{'' if is_renamed else 'new_'}resolver")
    register("run_dir", run_dir, use_cache=True, replace=True)
    register("sweep_dir", sweep_dir, replace=True)
    register("job_dir", job_dir, replace=True)


def sweep_dir(runs: str, name: str | None) -> str:
    """Return the directory of a sweep.

    Args:
        runs: Root folder of all runs.
        name: Name chosen with `sweep`; None for a sweep that only the command line defines.
    """
    return str(Path(f"{runs}/{SWEEPS}/{name or 'multirun'}").expanduser())


def job_dir(*swept: str, _root_: DictConfig) -> str:
    """Return the name of a job's directory in that of its sweep, the same in every later start.

    Args:
        swept: Keys whose values are part of the name; the hash of the configuration makes it
            unique.
    """
    words = words_of_job(typed(_root_.hydra), swept)
    identity = config_hash(to_plain(_root_, choices(_root_.hydra)).values)
    # An earlier sweep over other keys may have given the same job a different name.
    earlier = sorted(Path(_root_.hydra.sweep.dir).glob(f"*{identity}"))
    return earlier[0].name if earlier else "-".join([*words, identity])


def words_of_job(overrides: Sequence[str], swept: Sequence[str]) -> list[str]:
    """Return the swept values of a job as one word for a path, or none."""
    words = []
    for override in overrides_of(overrides):
        key = override.key_or_group
        if key in swept:
            text = override.get_value_element_as_str()
            value = re.sub(r"[^A-Za-z0-9._]+", "-", text).rstrip("-.")
            words.append(value if key in GROUPS else f"{key.rsplit('.', 1)[-1]}-{value}")
    return ["_".join(words)[:WORDS]] if words else []


def swept_keys(overrides: Sequence[str], hydra_config: Any) -> list[str]:
    """Return the keys that differ between the jobs of a sweep.

    Args:
        overrides: Overrides of the whole command.
        hydra_config: The `hydra` node of the configuration, whose sweeper may name more keys.
    """
    typed = [each.key_or_group for each in overrides_of(overrides) if each.is_sweep_override()]
    return list(dict.fromkeys([*params_of(hydra_config), *typed]))


def params_of(hydra_config: Any) -> dict[str, Any]:
    """Return `hydra.sweeper.params`, which the sweeper adds to the command line."""
    params = hydra_config.sweeper.get("params")
    return {} if params is None else dict(OmegaConf.to_container(params))  # type: ignore[arg-type]


@dataclass
class Jobs:
    """Command lines of the jobs of a sweep.

    Attributes:
        overrides: Overrides of each listed job, by the values that distinguish it.
        count: Number of jobs of the sweep.
    """

    overrides: dict[str, list[str]]
    count: int


def jobs_of(
    is_sweep: bool, overrides: Sequence[str], hydra_config: Any, config_dir: str | None = None
) -> Jobs:
    """Return the jobs of a command as Hydra's sweeper creates them; one job without a sweep.

    If there are more than `MOST` jobs, only the first and those that differ from it in one key are
    listed, at most `MOST`. The two ends of an interval represent all of its values.

    Args:
        is_sweep: Whether the keys of the sweeper count, besides those of the command line.
        overrides: Overrides of the whole command.
        hydra_config: The `hydra` node of the configuration.
        config_dir: Folder of your own configs, beside those of the package.
    """
    params = [f"{key}={value}" for key, value in params_of(hydra_config).items()]
    values: list[list[str]] = []
    swept: list[int] = []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        paths = searchpath(overrides, config_dir)
        for text in [*(params if is_sweep else []), *overrides]:
            several = [each for each in overrides_of([text]) if each.is_sweep_override()]
            swept += [len(values)] if several else []
            of_text = [
                f"{each.get_key_element()}={value}"
                for each in several
                for value in values_of(each, options_of(each, paths))
            ]
            values.append(of_text or [text])
    count = math.prod(map(len, values))
    found: Iterable[Sequence[str]] = itertools.product(*values)
    if count > MOST:
        first = [each[0] for each in values]
        others = (
            [*first[:place], value, *first[place + 1 :]]
            for place in swept
            for value in values[place][1:]
        )
        found = itertools.islice(itertools.chain([first], others), MOST)
    return Jobs({" ".join(job[place] for place in swept): list(job) for job in found}, count)


def wrong_sweep(
    is_sweep: bool, overrides: Sequence[str], hydra_config: Any, config_dir: str | None = None
) -> list[Fault]:
    """Return the faults of a command that concern its sweep.

    Args:
        is_sweep: Whether several runs are requested, with `-m`.
        overrides: Overrides of the whole command.
        hydra_config: The `hydra` node of the configuration.
        config_dir: Folder of your own configs, beside those of the package.
    """
    names = [each for each in overrides_of(overrides) if each.key_or_group == "sweep"]
    several = [each.input_line for each in names if each.is_sweep_override()]
    if several:
        return [Fault("sweep", f"{several[0]}: expected one sweep. Fix: run one command for each")]
    chosen = hydra_config.runtime.choices.get("sweep")
    if not is_sweep:
        way_out = f"sweep={chosen} needs -m. Fix: python -m parcnet_train -m sweep={chosen}"
        return [Fault("sweep", way_out)] if chosen is not None else []
    params = [f"{key}={value}" for key, value in params_of(hydra_config).items()]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        paths = searchpath(overrides, config_dir)
        return [
            Fault("hydra.sweeper.params", f"hydra.sweeper.params: {override.input_line} {EMPTY}")
            for override in overrides_of(params)
            if is_empty(override, options_of(override, paths))
        ]

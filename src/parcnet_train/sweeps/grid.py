"""What a configuration has of sweeps: their keys, the names of their jobs, their faults."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf

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

MOST = 50  # jobs of a sweep that are checked: each takes seconds
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
    return str(Path(f"{runs}/{SWEEPS}/{name or 'multirun'}").expanduser())


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


@dataclass
class Jobs:
    """Command lines of a sweep's jobs, by what tells them apart.

    Attributes:
        overrides: Of each job that is listed, by its name.
        count: How many jobs the sweep has.
    """

    overrides: dict[str, list[str]]
    count: int


def jobs_of(
    is_sweep: bool, overrides: Sequence[str], hydra_config: Any, config_dir: str | None = None
) -> Jobs:
    """The jobs of a command, as Hydra's own sweeper makes them; one where it sweeps over nothing.

    Of more than `MOST` jobs, the first is listed and those that differ from it in one key, and of
    them no more than `MOST`. Of an interval, its two ends stand for all values.

    Args:
        is_sweep: Whether the sweeper's own keys count too, besides those of the command line.
        overrides: Of the whole command.
        hydra_config: The `hydra` node of its configuration.
        config_dir: Folder of configs beside ours.
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
        return [Fault("sweep", f"{several[0]}: expected one sweep. Fix: one command for each")]
    chosen = hydra_config.runtime.choices.get("sweep")
    if not is_sweep:
        way_out = f"sweep={chosen} is several runs. Fix: python -m parcnet_train -m sweep={chosen}"
        return [Fault("sweep", way_out)] if chosen is not None else []
    params = [f"{key}={value}" for key, value in params_of(hydra_config).items()]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        paths = searchpath(overrides, config_dir)
        return [
            Fault("hydra.sweeper.params", f"hydra.sweeper.params: {override.input_line} {EMPTY}")
            for override in overrides_of(params)
            if is_empty(override, options_of(override, paths))
        ]

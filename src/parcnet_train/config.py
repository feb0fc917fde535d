"""Configurations: where they lie, how they are composed, and `check`, which finds every fault.

With the entry and `build.py`, the only module that knows Hydra. Nothing here imports torch before
`check` is called, so that `--help` and `--cfg` are quick.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from parcnet_train.errors import ConfigError
from parcnet_train.runs import config_hash, reads_data, run_dir

_INSTALLED = Path(__file__).parent / "conf"  # in a wheel
CONF = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "conf"

# The groups whose choices name a run: kept in checkpoints and results.
GROUPS = (
    *("task", "backbone", "head", "data", "recipe", "trainer", "logger"),
    *("experiment", "ablation", "debug", "sweep"),
)


NO_PLUGIN = "Could not find 'hydra/"  # what Hydra says where a file of ours asks for one
NO_CONFIG = "there is no such config"  # in every fault of a choice that does not exist
EMPTY = "stands for no value, so there is nothing to run"

OPTIONAL = ("experiment", "ablation", "debug", "sweep")

# What belongs to a whole command, or to the first process of a run, and to no job.
OF_THE_COMMAND = (
    *("hydra.mode", "hydra.run", "hydra.sweep", "hydra/sweep", "hydra.launcher", "hydra/launcher"),
    "hydra.output_subdir",
)

WORDS = 80  # characters of a job's directory in front of its hash


def register_resolvers() -> None:
    """Makes `${run_dir:...}` and what names the jobs of a sweep known to configs.

    The first answers the same all through a process.
    """
    OmegaConf.register_new_resolver("run_dir", run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("sweep_name", lambda name: name or "multirun", replace=True)
    OmegaConf.register_new_resolver("job_dir", job_dir, replace=True)


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


def overrides_of(texts: Sequence[str]) -> list[Override]:
    """Those of a command line that can be parsed; `parse` tells of the others."""
    parsed = []
    for text in texts:
        try:
            parsed += OverridesParser.create().parse_overrides([text])
        except HydraException:
            continue
    return parsed


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


def nearest(word: str, allowed: Sequence[str], cutoff: float = 0.6) -> str:
    """`; did you mean X?`, or nothing where no allowed word is nearer than the cutoff."""
    matches = difflib.get_close_matches(word, allowed, n=1, cutoff=cutoff)
    return f"; did you mean {matches[0]}?" if matches else ""


def compose_config(
    overrides: Sequence[str], config_dir: str | None = None
) -> tuple[DictConfig, list[str]]:
    """Composes what can be composed and lists the faults of the rest.

    Args:
        overrides: as on the command line; of a sweep, its first job is composed, and every choice
            of a group is looked up.
        config_dir: a folder of configs beside ours.

    Returns:
        The configuration, with its `hydra` node, and one line per override that was left out.

    Raises:
        ConfigError: where not even the rest can be composed.
    """
    paths = searchpath(overrides, config_dir)
    if config_dir is not None:
        overrides = [*overrides, *paths]
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="parcnet_train"):
        parsed, faults = parse(overrides)
        groups, values = [], []
        for override in parsed:
            if override.value() is None and override.key_or_group in OPTIONAL:
                continue  # the value it has anyway
            options = options_of(override, paths)
            if is_empty(override, options):
                faults.append(f"{override.input_line} {EMPTY}{among(options)}")
                continue
            chosen = choices_of(override, options)
            unknown = [name for name in chosen if name not in options]
            if options and not override.is_delete() and not chosen:
                unknown = ["null"]
            if not options:
                values.append(override)
            elif not unknown:
                groups.append(first_job(override, options))
            faults += [
                f"{override.key_or_group}={name}: {NO_CONFIG}; allowed are "
                f"{', '.join(options)}{nearest(name, options)}"
                for name in unknown
                if options
            ]
        try:
            known = compose("config", [*paths, *groups], return_hydra_config=True)
            keys = sorted(keys_of(known))
            settings = []
            for override in values:
                key = override.key_or_group
                if override.is_add() or override.is_force_add() or key in keys:
                    settings.append(first_job(override, []))
                else:
                    faults.append(
                        f"{key}: there is no such key{nearest(key, keys)} (a new key is added "
                        f"with a plus: +{key}=...)"
                    )
            config = compose("config", [*groups, *settings], return_hydra_config=True)
            config.paths.output = ""  # Hydra chooses it when it starts the job
            return config, faults
        except (HydraException, OmegaConfBaseException) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if NO_PLUGIN in reason:
                reason += ", a plugin of Hydra that is not installed; docs/sweeps.md names packages"
            raise ConfigError([*faults, reason]) from error


def config_loader() -> Any:
    """Hydra's loader, inside `initialize_config_dir`."""
    return GlobalHydra.instance().config_loader()


def parse(overrides: Sequence[str]) -> tuple[list[Override], list[str]]:
    """Parses overrides one by one; those that cannot be parsed become faults."""
    parsed, faults = [], []
    for text in overrides:
        try:
            parsed += OverridesParser.create(config_loader()).parse_overrides([text])
        except HydraException:
            faults.append(
                f"{text!r} cannot be read; allowed is key=value, with quotes: 'key=\"a b\"'"
            )
    return parsed, faults


def searchpath(overrides: Sequence[str], config_dir: str | None) -> list[str]:
    """The overrides that name further folders of configs."""
    own = [] if config_dir is None else [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"]
    return [text for text in [*overrides, *own] if text.startswith("hydra.searchpath=")]


def options_of(override: Override, paths: Sequence[str]) -> list[str]:
    """The configs of the group that an override is about; none where it is about a value."""
    return config_loader().get_group_options(
        override.key_or_group, config_name="config", overrides=list(paths)
    )


def values_of(override: Override, options: Sequence[str]) -> Iterator[Any]:
    """What an override asks for, one after another in a sweep, as it is written.

    Args:
        override: of a group or a value.
        options: the configs of its group.
    """
    value: Any = override.value()
    if isinstance(value, Glob):
        return iter(value.filter(list(options)))
    if isinstance(value, IntervalSweep):  # a sweeper picks from it; its ends are allowed
        return iter([str(value.start), str(value.end)])
    return override.sweep_string_iterator()


def is_empty(override: Override, options: Sequence[str]) -> bool:
    """Whether an override is a sweep over nothing."""
    return override.is_sweep_override() and not list(values_of(override, options))


def among(options: Sequence[str]) -> str:
    """The configs of a group, where there are any."""
    return f"; there are {', '.join(options)}" if options else ""


def choices_of(override: Override, options: Sequence[str]) -> list[str]:
    """The config names that a group override asks for, all of them in a sweep."""
    if isinstance(override.value(), Glob):
        return list(values_of(override, options))
    is_discrete = override.is_discrete_sweep()
    values = override.sweep_iterator() if is_discrete else [override.value()]
    flat = [name for value in values for name in (value if isinstance(value, list) else [value])]
    return [str(name) for name in flat if name is not None]


def first_job(override: Override, options: Sequence[str]) -> str:
    """The override as the first job of a sweep has it."""
    if not override.is_sweep_override():
        return override.input_line or ""
    return f"{override.get_key_element()}={next(values_of(override, options))}"


def keys_of(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """All dotted keys, of inner nodes too; nothing is resolved."""
    for name in map(str, config):
        yield f"{prefix}{name}"
        is_open = not (
            OmegaConf.is_missing(config, name) or OmegaConf.is_interpolation(config, name)
        )
        if is_open and isinstance(config[name], DictConfig):
            yield from keys_of(config[name], f"{prefix}{name}.")


def choices(hydra_config: Any) -> dict[str, str | None]:
    """The chosen config of every group, from the `hydra` node of a configuration."""
    return {group: hydra_config.runtime.choices.get(group) for group in GROUPS}


def typed(hydra_config: Any, kind: Literal["task", "hydra"] = "task") -> list[str]:
    """The overrides of a command line as they were typed.

    Args:
        hydra_config: the `hydra` node of a configuration.
        kind: those of the configuration, or those of Hydra itself.
    """
    # An interpolation among them is one of the configuration, not of this list.
    texts = OmegaConf.to_container(hydra_config.overrides[kind], resolve=False)
    assert isinstance(texts, list)
    return [str(text) for text in texts]


def command_of(hydra_config: Any, ckpt: str | None = None) -> list[str]:
    """The command line that runs a job of Hydra once more, in the directory that it has.

    Args:
        hydra_config: the `hydra` node of the job.
        ckpt: in place of the job's own; None: that.
    """
    sources = hydra_config.runtime.config_sources
    folders = [source.path for source in sources if source.provider == "command-line"]
    own = [
        text
        for text in (*typed(hydra_config), *typed(hydra_config, "hydra"))
        if not text.lstrip("+~").startswith(OF_THE_COMMAND)
    ]
    return [
        *(sys.executable, "-m", "parcnet_train"),
        *(f"--config-dir={folder}" for folder in folders),
        *own,
        "hydra.mode=RUN",  # a file of the user's may say MULTIRUN
        f"hydra.run.dir={quoted(hydra_config.runtime.output_dir)}",
        *([] if ckpt is None else [f"ckpt={quoted(ckpt)}"]),
    ]


def quoted(path: str) -> str:
    """A path as Hydra reads it from a command line, whatever is in it."""
    return QuotedString(path, Quote.single).with_quotes()


def names_its_directory(config: DictConfig) -> bool:
    """Whether a run takes its directory from `run_dir`, and not from the command line."""
    return "${run_dir:" in str(OmegaConf.to_container(config.hydra.run)["dir"])  # type: ignore[call-overload, index]


@dataclass
class PlainConfig:
    """A configuration as plain dicts, lists, strings and numbers.

    Attributes:
        values: the configuration without the keys that have a fault, `choices`, and
            `overrides`.
        borrowed: keys that interpolate another key, or have no value: whose faults, if any, are
            reported elsewhere.
        faults: one line per key without a value or with a broken interpolation.
    """

    values: dict[str, Any]
    borrowed: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


def to_plain(
    config: DictConfig, chosen: dict[str, str | None], overrides: Sequence[str] = ()
) -> PlainConfig:
    """Resolves a configuration, its `hydra` node left out.

    Args:
        config: composed.
        chosen: names of the chosen configs, kept under `choices`.
        overrides: of the command line, kept under that name: what somebody has asked for.
    """
    plain = PlainConfig({})

    def resolve(node: DictConfig, prefix: str, own: bool) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name in map(str, node):
            key = f"{prefix}{name}"
            if key == "hydra":
                continue
            if OmegaConf.is_interpolation(node, name):
                plain.borrowed.add(key)
            try:
                value = node[name]
            except InterpolationToMissingValueError:
                continue  # reported where the value is missing
            except MissingMandatoryValue:
                plain.borrowed.add(key)
                if own:
                    plain.faults.append(f"{key} has no value; give it one: {key}=...")
                continue
            except InterpolationResolutionError as error:
                plain.borrowed.add(key)
                if own:
                    plain.faults.append(f"{key}: {str(error).splitlines()[0]}")
                continue
            if isinstance(value, DictConfig):
                values[name] = resolve(value, f"{key}.", own and key not in plain.borrowed)
            else:
                is_list = OmegaConf.is_config(value)
                values[name] = OmegaConf.to_container(value, resolve=True) if is_list else value
        return values

    plain.values = {**resolve(config, "", True), "choices": chosen, "overrides": list(overrides)}
    if not reads_data(plain.values):
        plain.faults = [fault for fault in plain.faults if not fault.startswith("data.")]
    return plain


def compose_plain(overrides: Sequence[str]) -> PlainConfig:
    """Composes another configuration than the one of the command line.

    Args:
        overrides: as on the command line.

    Returns:
        The configuration; its faults include those of the overrides.

    Raises:
        ConfigError: where it cannot be composed.
    """
    several = sweeps(overrides)
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()  # Hydra refuses to compose where it is running a job
    try:
        config, faults = compose_config(overrides)
    finally:
        GlobalHydra.instance().hydra = running
    plain = to_plain(config, choices(config.hydra))
    plain.faults = [*several, *faults, *plain.faults]
    return plain


def sweeps(overrides: Sequence[str]) -> list[str]:
    """One line per override with several values, where only one configuration is wanted."""
    return [
        f"{override.input_line}: allowed is one value, a list in brackets: KEY=[1,2]"
        for override in overrides_of(overrides)
        if override.is_sweep_override()
    ]

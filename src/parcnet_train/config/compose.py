"""Composition of configurations with Hydra, and their plain values.

Besides this module, only `config/overrides.py`, `config/stored.py`, `config/group_schemas.py`,
`sweeps/grid.py`, `build.py`, the entry point and the launcher use Hydra or OmegaConf. The modules
in `config/` do not import torch, so that `--help` and `--cfg` are fast.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)
from yaml import MarkedYAMLError

from parcnet_train.config.bounded import LACKING
from parcnet_train.config.group_files import misread_files, not_yaml
from parcnet_train.config.keys import value_of
from parcnet_train.config.nearest import nearest
from parcnet_train.config.overrides import (
    EMPTY,
    among,
    at_home,
    choices_of,
    first_job,
    is_empty,
    meant,
    options_of,
    overrides_of,
    parse,
    searchpath,
    sweeps,
    typed,
    whole,
)
from parcnet_train.config.schema import faults_of, fits, read_schema, schema_at
from parcnet_train.config.stored import (
    adopt,
    adoption_of,
    with_newest_run,
)
from parcnet_train.config.typed import reads_data
from parcnet_train.errors import CheckpointError, ConfigError, Fault, first_line

_INSTALLED = Path(__file__).parents[1] / "conf"  # in a wheel
CONF = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[3] / "conf"
SCHEMA = CONF / "schema" / "config.json"

GLOBAL = ("experiment", "ablation", "debug", "sweep")  # groups whose files set values of any group

# Groups whose choices identify a run; they are stored in checkpoints and results.
GROUPS = ("task", "backbone", "head", "data", "recipe", "trainer", "logger", *GLOBAL)

RECORDED = ("choices", "overrides")  # stored in addition to the keys of a configuration

NO_PLUGIN = "Could not find 'hydra/"  # in Hydra's message about a plugin that is not installed
NO_CONFIG = "there is no such config"  # in every fault of a choice that does not exist
# Launchers that extras of this package install.
EXTRA_OF_LAUNCHERS = {"ray": "ray", "submitit_local": "slurm", "submitit_slurm": "slurm"}

OPTIONAL = ("callbacks", *GLOBAL)
# Groups with one choice per run; the other groups may have a list of choices.
SINGLE = ("task", "backbone", "head", "data", "recipe", "trainer", "sweep")


def compose_config(
    overrides: Sequence[str], config_dir: str | None = None
) -> tuple[DictConfig, list[Fault]]:
    """Compose a configuration, leaving out faulty overrides, and list the faults.

    Args:
        overrides: Overrides as typed. For a sweep, the first job is composed, and every choice of a
            group is checked.
        config_dir: Folder of your own configs beside the package's.

    Returns:
        The configuration, with its `hydra` node, and one line per override that was left out.

    Raises:
        ConfigError: If the configuration cannot be composed without the faulty overrides either.
    """
    if config_dir is not None and not Path(config_dir).expanduser().is_dir():
        raise ConfigError(
            f"--config-dir={config_dir}: there is no such folder; expected one with your own files "
            "by group, as in FOLDER/experiment/NAME.yaml"
        )
    paths = searchpath(overrides, config_dir)
    if config_dir is not None:
        overrides = [*overrides, *paths]
    folders = [each for override in overrides_of(paths) for each in override.value()]  # type: ignore[union-attr]  # of a list
    if misread := misread_files(folders, GROUPS):
        raise ConfigError(misread)
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="parcnet_train"):
        parsed, faults = parse(overrides)
        groups, values, unknown = sorted_out(parsed, paths)
        faults += unknown
        try:
            known = whole([*paths, *groups])
            values, missing = with_newest_run(known, groups, as_meant(values, known))
            faults += missing
            adoption = adoption_of(known, groups, values, paths)
            if adoption is not None:
                groups = [*adoption.added, *groups]
                known = whole([*paths, *groups])
            keys = sorted(keys_of(known))
            settings = []
            for override in as_meant(values, known):
                key = override.key_or_group
                if override.is_add() or override.is_force_add() or key in keys:
                    settings.append(first_job(override, []))
                else:
                    reason = (
                        f"{override.input_line}: {LACKING[key]}"
                        if key in LACKING
                        else (
                            f"{key}: there is no such key{nearest(key, keys)} (a new key is added "
                            f"with a plus: +{key}=...)"
                        )
                    )
                    faults.append(Fault(key, reason))
            config = whole([*groups, *settings])
            if adoption is not None:
                adopt(config, known, adoption, settings)
            config.paths.output = ""  # Hydra chooses it when it starts the job
            return config, faults
        except CheckpointError as error:
            raise ConfigError([*faults, Fault("ckpt", str(error))]) from error
        except MarkedYAMLError as error:
            raise ConfigError([*faults, Fault("", not_yaml(error))]) from error
        except (HydraException, OmegaConfBaseException) as error:
            reason = first_line(error)
            if NO_PLUGIN in reason:
                reason += (
                    "; this Hydra plugin is not installed; docs/guides/sweeps.md names its package"
                )
            raise ConfigError([*faults, Fault("", reason)]) from error


def schema_of_target(name: str) -> Mapping[str, Any] | None:
    """Return the schema of a `_target_` in `conf/`; None for any other one."""
    found: Mapping[str, Any] | None = read_schema(SCHEMA)["$defs"].get(name)
    return found


def typed_faults(plain: PlainConfig) -> list[Fault]:
    """Return every fault of keys, types and ranges, without importing torch."""
    whole = {name: value for name, value in plain.values.items() if name not in RECORDED}
    return [
        *plain.faults,
        *faults_of(whole, read_schema(SCHEMA), schema_of_target, plain.borrowed),
    ]


def as_meant(overrides: Sequence[Override], config: DictConfig) -> list[Override]:
    """Turn numbers back into text if only text fits, as in `data.root=2012`.

    Args:
        overrides: Parsed overrides, including choices of groups.
        config: Composed configuration with its `hydra` node; some of its values may be missing.
    """
    tree: Any = OmegaConf.to_container(config, resolve=False)
    groups = tree["hydra"]["runtime"]["choices"]

    def wants_text(key: str, value: Any, text: Any) -> bool:
        if key in groups:
            return value is not None
        if key.startswith("hydra."):
            return value is not None and isinstance(value_of(tree, key), str)
        schema = schema_at(tree, key, read_schema(SCHEMA), schema_of_target)
        return fits(text, schema) and not fits(value, schema)

    return [at_home(meant(each, partial(wants_text, each.key_or_group))) for each in overrides]


def is_option(options: Sequence[str], value: Any, text: Any) -> bool:
    """Return whether the text of a value is the name of a config."""
    return text in options


def sorted_out(
    parsed: Sequence[Override], paths: Sequence[str]
) -> tuple[list[str], list[Override], list[Fault]]:
    """Divide overrides into group choices and values, inside `initialize_config_dir`.

    Args:
        parsed: Overrides of a command line.
        paths: The overrides that name additional config folders.

    Returns:
        Choices of the first job of a sweep, values, and one fault per choice that does not exist.
    """
    groups: list[str] = []
    values: list[Override] = []
    faults: list[Fault] = []
    for override in parsed:
        if override.value() is None and override.key_or_group in OPTIONAL:
            continue  # null is the default
        options = options_of(override, paths)
        override = meant(override, partial(is_option, options))
        if is_empty(override, options):
            faults.append(
                Fault(override.key_or_group, f"{override.input_line} {EMPTY}{among(options)}")
            )
            continue
        if override.key_or_group in SINGLE and isinstance(override.value(), list):
            names = ",".join(choices_of(override, options))
            faults.append(
                Fault(
                    override.key_or_group,
                    f"{override.input_line}: a run has only one {override.key_or_group}; expected "
                    f"one of {', '.join(options)}. Fix: run a sweep: python -m parcnet_train -m "
                    f"{override.key_or_group}={names}",
                )
            )
            continue
        chosen = choices_of(override, options)
        unknown = [name for name in chosen if name not in options]
        if options and not override.is_delete() and not chosen:
            unknown = ["[]" if override.value() == [] else "null"]
        if not options:
            values.append(override)
        elif not unknown:
            groups.append(first_job(override, options))
        faults += [
            Fault(
                override.key_or_group,
                f"{override.key_or_group}={name}: {NO_CONFIG}; expected one of "
                f"{', '.join(options)}{nearest(name, options)}{installation(name)}",
            )
            for name in unknown
            if options
        ]
    return groups, values, faults


def installation(name: str) -> str:
    """Return how to install a launcher of Hydra that an extra of this package has; else nothing."""
    extra = EXTRA_OF_LAUNCHERS.get(name)
    return f". Fix: pip install 'parcnet-train[{extra}]'" if extra else ""


def keys_of(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield all dotted keys, inner nodes included; nothing is resolved."""
    for name in map(str, config):
        yield f"{prefix}{name}"
        is_open = not (
            OmegaConf.is_missing(config, name) or OmegaConf.is_interpolation(config, name)
        )
        if is_open and isinstance(config[name], DictConfig):
            yield from keys_of(config[name], f"{prefix}{name}.")


def choices(hydra_config: Any) -> dict[str, Any]:
    """Return the chosen config of every group, from a configuration's `hydra` node.

    Returns:
        A name for each group, a list of names if several were typed, None if there is none.
    """
    chosen = {group: hydra_config.runtime.choices.get(group) for group in GROUPS}
    for override in overrides_of(typed(hydra_config)):
        value = override.value()
        if override.key_or_group in GROUPS and isinstance(value, list):
            names = [str(name) for name in value]  # Hydra does not record a list of choices
            chosen[override.key_or_group] = names if len(names) > 1 else names[0]
    return chosen


def names_its_directory(config: DictConfig) -> bool:
    """Return whether a run's directory is chosen by `run_dir`, not on the command line."""
    return "${run_dir:" in str(OmegaConf.to_container(config.hydra.run)["dir"])  # type: ignore[call-overload, index]


@dataclass
class PlainConfig:
    """A configuration as plain dicts, lists, strings and numbers.

    Attributes:
        values: The configuration without the keys that have a fault, `choices`, and
            `overrides`.
        borrowed: Keys that interpolate another key, or have no value; their faults, if any, are
            reported elsewhere.
        faults: One fault per key without a value or with a broken interpolation.
    """

    values: dict[str, Any]
    borrowed: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)


def to_plain(
    config: DictConfig, chosen: dict[str, Any], overrides: Sequence[str] = ()
) -> PlainConfig:
    """Resolve a configuration, except its `hydra` node, to plain values.

    Args:
        config: Composed configuration.
        chosen: Names of the chosen configs, kept under `choices`.
        overrides: Typed overrides, kept under that name.
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
                    plain.faults.append(Fault(key, f"{key} has no value. Fix: {key}=..."))
                continue
            except InterpolationResolutionError as error:
                plain.borrowed.add(key)
                if own:
                    plain.faults.append(Fault(key, f"{key}: {first_line(error)}"))
                continue
            if isinstance(value, DictConfig):
                values[name] = resolve(value, f"{key}.", own and key not in plain.borrowed)
            else:
                is_list = OmegaConf.is_config(value)
                values[name] = OmegaConf.to_container(value, resolve=True) if is_list else value
        return values

    values = resolve(config, "", True)
    for group in GLOBAL:
        if values.pop(group, None) is not None:
            plain.faults.append(
                Fault(
                    group,
                    f"{group}={chosen.get(group)}: its values are under a key {group}, which does "
                    "not exist. Fix: let its file begin with the line # @package _global_",
                )
            )
    if chosen.get("logger") is None and values.get("logger"):  # a list in a config file
        chosen = {**chosen, "logger": list(values["logger"])}
    plain.values = {**values, "choices": chosen, "overrides": list(overrides)}
    if not reads_data(plain.values):
        plain.faults = [fault for fault in plain.faults if not fault.key.startswith("data.")]
    return plain


def compose_plain(overrides: Sequence[str], config_dir: str | None = None) -> PlainConfig:
    """Compose a configuration without a command line, as plain values.

    Args:
        overrides: Overrides as they would be typed.
        config_dir: Folder of your own configs beside the package's.

    Returns:
        The configuration; its faults include those of the overrides.

    Raises:
        ConfigError: If it cannot be composed.
    """
    several = sweeps(overrides)
    with beside_jobs():
        config, faults = compose_config(overrides, config_dir)
    plain = to_plain(config, choices(config.hydra))
    plain.faults = [*several, *faults, *plain.faults]
    return plain


def compose_choice(group: str, name: str) -> dict[str, Any]:
    """Return the values of one file of a group, such as `conf/backbone/parcnet_s.yaml`.

    Args:
        group: Name of the group.
        name: Name of the file, without its suffix.
    """
    with beside_jobs(), initialize_config_dir(str(CONF), version_base="1.3"):
        node = compose(f"{group}/{name}")[group]
    values: Any = OmegaConf.to_container(node, resolve=True)
    return values


@contextlib.contextmanager
def beside_jobs() -> Iterator[None]:
    """Allow to compose inside a job of Hydra, which Hydra itself refuses."""
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = running

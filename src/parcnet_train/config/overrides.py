"""Overrides of a command line: parsed, inspected and rewritten."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
)
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from parcnet_train.errors import Fault

EMPTY = "matches no value, so there is nothing to run"

DIRECTORIES = ("hydra.run.dir", "hydra.sweep.dir")

# Keys that belong to a whole command, or to the first process of a run, but not to a single job.
OF_THE_COMMAND = (
    *("hydra.mode", "hydra.run", "hydra.sweep", "hydra/sweep", "hydra.launcher", "hydra/launcher"),
    "hydra.output_subdir",
)


def parse(overrides: Sequence[str]) -> tuple[list[Override], list[Fault]]:
    """Parse overrides one by one; those that cannot be parsed become faults."""
    parsed: list[Override] = []
    faults = []
    for text in overrides:
        try:
            parsed += OverridesParser.create(config_loader()).parse_overrides([text])
        except HydraException:
            faults.append(Fault(text.partition("=")[0].lstrip("+~"), unreadable(text)))
    return parsed, faults


def unreadable(text: str) -> str:
    """Return a message about an override that Hydra cannot parse, with the text to type."""
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[+~]*[\w./@$-]+", key):
        return f"{text!r} cannot be read; expected key=value, if necessary quoted: 'key=\"a b\"'"
    special = re.search(r"[^\w/\\+.$%*@?|: \t-]|[^\x00-\x7f]", value)
    reason = f"the character {special[0]} must be quoted" if special else "the value must be quoted"
    return f"{text} cannot be read: {reason}. Fix: type {for_shell(key, value)}"


def for_shell(key: str, value: str) -> str:
    """Return an override with a string value, quoted for a POSIX shell."""
    return shlex.quote(f"{key}={QuotedString(value, Quote.double).with_quotes()}")


def meant(override: Override, wants_text: Callable[[Any, Any], bool]) -> Override:
    """Return an override with its values as strings if only strings are valid for its key.

    Hydra reads `2012`, `1e3` and `true` as numbers and booleans. `null` remains null, since it
    turns a value off.

    Args:
        override: Parsed override; a list has several values, and so has a sweep `a,b`.
        wants_text: Function that returns whether a parsed value is invalid but its text is valid;
            it gets an element of a list as a list of one.
    """
    value: Any = override.value()
    typed = (override.input_line or "").partition("=")[2].strip()
    is_list = isinstance(value, list)
    if is_list or (isinstance(value, ChoiceSweep) and value.simple_form):
        values = value if is_list else value.list
        parts = [part.strip() for part in (typed[1:-1] if is_list else typed).split(",")]
    else:
        values, parts = [value], [typed]
    if len(values) != len(parts):  # a comma within quotes or brackets
        return override
    words = [
        quoted(part)
        if isinstance(one, int | float)
        and wants_text(*(([one], [part]) if is_list else (one, part)))
        else part
        for one, part in zip(values, parts, strict=True)
    ]
    if words == parts:
        return override
    text = ",".join(words)
    text = f"{override.get_key_element()}={f'[{text}]' if is_list else text}"
    return OverridesParser.create().parse_overrides([text])[0]


def at_home(override: Override) -> Override:
    """Replace `~` in Hydra's own directories by the home folder, which Hydra does not do."""
    path = override.value()
    if override.key_or_group not in DIRECTORIES or not str(path).startswith("~"):
        return override
    text = f"{override.get_key_element()}={quoted(str(Path(str(path)).expanduser()))}"
    return OverridesParser.create().parse_overrides([text])[0]


def overrides_of(texts: Sequence[str]) -> list[Override]:
    """Return the overrides that can be parsed; `parse` reports the others."""
    parsed = []
    for text in texts:
        try:
            parsed += OverridesParser.create().parse_overrides([text])
        except HydraException:
            continue
    return parsed


def typed(hydra_config: Any, kind: Literal["task", "hydra"] = "task") -> list[str]:
    """Return the overrides of a command line as they were typed.

    Args:
        hydra_config: The `hydra` node of a configuration.
        kind: Overrides of the configuration, or of Hydra itself.
    """
    # An interpolation in an override refers to the configuration, so it is not resolved here.
    texts = OmegaConf.to_container(hydra_config.overrides[kind], resolve=False)
    assert isinstance(texts, list)
    return [str(text) for text in texts]


def sweeps(overrides: Sequence[str]) -> list[Fault]:
    """Return a fault for every override that is a sweep; for commands that start a single run."""
    return [
        Fault(
            override.key_or_group,
            f"{override.input_line}: several values; expected one. Fix: write a list as KEY=[1,2], "
            "use -m to run each value, or quote a string: "
            f"{for_shell(*(override.input_line or '').split('=', 1))}",
        )
        for override in overrides_of(overrides)
        if override.is_sweep_override()
    ]


def config_loader() -> Any:
    """Return Hydra's loader, inside `initialize_config_dir`."""
    return GlobalHydra.instance().config_loader()


def whole(overrides: Sequence[str]) -> DictConfig:
    """Compose overrides with the `hydra` node, inside `initialize_config_dir`."""
    return compose("config", list(overrides), return_hydra_config=True)


def searchpath(overrides: Sequence[str], config_dir: str | None) -> list[str]:
    """Return the overrides that name additional config folders."""
    own = [] if config_dir is None else [search_in(config_dir)]
    return [text for text in [*overrides, *own] if text.startswith("hydra.searchpath=")]


def search_in(config_dir: str) -> str:
    """Return the override that adds a config folder, whatever its name."""
    return f"hydra.searchpath=[{quoted(f'file://{Path(config_dir).expanduser().resolve()}')}]"


def options_of(override: Override, paths: Sequence[str]) -> list[str]:
    """Return the configs of the group that an override chooses; none if it sets a value."""
    # Without a config name: Hydra would look for a search path in that config, and ours has none.
    return config_loader().get_group_options(override.key_or_group, overrides=list(paths))


def values_of(override: Override, options: Sequence[str]) -> Iterator[Any]:
    """Return the values of an override as typed; a sweep has several.

    Args:
        override: Override of a group or a value.
        options: Configs of its group.
    """
    value: Any = override.value()
    if isinstance(value, Glob):
        return iter(value.filter(list(options)))
    if isinstance(value, IntervalSweep):  # a sweeper chooses values from it, including its ends
        return iter([str(value.start), str(value.end)])
    return override.sweep_string_iterator()


def is_empty(override: Override, options: Sequence[str]) -> bool:
    """Return whether an override is a sweep without values."""
    return override.is_sweep_override() and not list(values_of(override, options))


def among(options: Sequence[str]) -> str:
    """Return a message part that lists the configs of a group."""
    return f"; available: {', '.join(options)}" if options else ""


def choices_of(override: Override, options: Sequence[str]) -> list[str]:
    """Return the config names that a group override chooses; a sweep has several."""
    if isinstance(override.value(), Glob):
        return list(values_of(override, options))
    is_discrete = override.is_discrete_sweep()
    values = override.sweep_iterator() if is_discrete else [override.value()]
    flat = [name for value in values for name in (value if isinstance(value, list) else [value])]
    return [str(name) for name in flat if name is not None]


def first_job(override: Override, options: Sequence[str]) -> str:
    """Return the override of the first job of a sweep."""
    if not override.is_sweep_override():
        return override.input_line or ""
    return f"{override.get_key_element()}={next(values_of(override, options))}"


def config_dir_of(hydra_config: Any) -> str | None:
    """Return the folder of `--config-dir` from a job's `hydra` node; None without one."""
    sources = hydra_config.runtime.config_sources
    folders = [source.path for source in sources if source.provider == "command-line"]
    return folders[0] if folders else None


def command_of(hydra_config: Any, ckpt: str | None = None) -> list[str]:
    """Return the command line that runs a job again in its directory.

    Args:
        hydra_config: The `hydra` node of the job.
        ckpt: Checkpoint that replaces the job's own; None: the job's own.
    """
    folder = config_dir_of(hydra_config)
    own = [
        text
        for text in (*typed(hydra_config), *typed(hydra_config, "hydra"))
        if not text.lstrip("+~").startswith(OF_THE_COMMAND)
    ]
    return [
        *(sys.executable, "-m", "parcnet_train"),
        *([] if folder is None else [f"--config-dir={folder}"]),
        *own,
        "hydra.mode=RUN",  # a config file of the user may set MULTIRUN
        f"hydra.run.dir={quoted(hydra_config.runtime.output_dir)}",
        *([] if ckpt is None else [f"ckpt={quoted(ckpt)}"]),
    ]


def quoted(path: str) -> str:
    """Quote a path so that Hydra reads it unchanged."""
    return QuotedString(path, Quote.single).with_quotes()

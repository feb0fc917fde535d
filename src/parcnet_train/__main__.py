"""Entry point: `python -m parcnet_train [GROUP=CHOICE ...] [KEY=VALUE ...]`."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from parcnet_train.config.compose import (
    CONF,
    PlainConfig,
    as_meant,
    choices,
    compose_config,
    compose_plain,
    names_its_directory,
    to_plain,
    typed_faults,
)
from parcnet_train.config.overrides import (
    command_of,
    config_dir_of,
    overrides_of,
    quoted,
    sweeps,
    typed,
)
from parcnet_train.config.stored import CHOSEN, read_stored, takes_over, typed_differences
from parcnet_train.distributed.processes import SWEEP, follow_launcher, place
from parcnet_train.distributed.user_errors import user_errors
from parcnet_train.errors import ConfigError, Fault, reason_of
from parcnet_train.runs.actions import ACTIONS
from parcnet_train.runs.claims import at_work, claim
from parcnet_train.sweeps.grid import Jobs, jobs_of, register_resolvers, swept_keys, wrong_sweep
from parcnet_train.sweeps.jobs import run_once

log = logging.getLogger(__name__)

OURS = "processes"  # among the choices of hydra/launcher
SUBDIR = "hydra.sweep.subdir"


def main() -> None:
    """Run one action, or several with `-m`; exit with 2 and one line per user error."""
    register_resolvers()
    is_job = follow_launcher(SWEEP)
    if follow_launcher():  # which has checked the configuration
        run()
        return
    arguments = get_args_parser().parse_args()
    folder = None
    for_hydra = (arguments.help, arguments.hydra_help, arguments.cfg, arguments.info)
    if not any((*for_hydra, arguments.shell_completion)):
        with user_errors():
            config, faults = compose_config(arguments.overrides, arguments.config_dir)
            plain = to_plain(config, choices(config.hydra))
            is_sweep = arguments.multirun or config.hydra.mode == RunMode.MULTIRUN
            launcher = config.hydra.runtime.choices["hydra/launcher"]
            faults += wrong_place(is_sweep, names_its_directory(config))
            if not is_job:  # of a sweep, whose file may hold more than what is swept
                faults += wrong_sweep(
                    is_sweep, arguments.overrides, config.hydra, arguments.config_dir
                )
            arguments.overrides = rewrite(arguments.overrides, config)
            if plain.values["action"] == "check":
                check_jobs(arguments, is_sweep, config.hydra, faults)
                return
            if not is_sweep:
                faults += sweeps(arguments.overrides)
            if is_sweep and launcher == OURS:
                if faults:  # the launcher checks the jobs, and their processes do
                    raise ConfigError(faults)
            else:
                refuse_faults(plain, faults, is_here=launcher == "basic" or not is_sweep)
            refuse_unwritable(config, is_sweep)
            if not is_sweep:
                named = None if names_its_directory(config) else Path(config.hydra.run.dir)
                folder = named if is_job else claim(plain.values, arguments.overrides, named)
        last = [None, *arguments.overrides][-1]
        where = len(sys.argv) - (sys.argv[::-1].index(last) if last in sys.argv else 0)
        sys.argv[where:where] = taken_over(config, arguments.overrides, is_sweep)
        if place().rank > 0:  # the first process alone writes `.hydra`
            sys.argv.insert(where, "hydra.output_subdir=null")
        elif folder is not None:
            sys.argv.insert(where, f"hydra.run.dir={quoted(str(folder))}")
        if is_sweep and not any(text.startswith(SUBDIR) for text in arguments.overrides):
            keys = ",".join(swept_keys(arguments.overrides, config.hydra))
            sys.argv.insert(where, f"{SUBDIR}=${{job_dir:{keys}}}")
    work = contextlib.nullcontext() if folder is None else at_work(folder, arguments.overrides)
    with user_errors(), work:  # Ctrl-C before a job begins
        run()


def rewrite(overrides: Sequence[str], config: DictConfig) -> list[str]:
    """Rewrite `sys.argv`, which Hydra reads, so that it has the meaning of the overrides.

    Returns:
        The overrides as they are there now.
    """
    parsed = overrides_of(overrides)
    pairs = zip(parsed, as_meant(parsed, config), strict=True)
    words = {typed.input_line: meant.input_line or "" for typed, meant in pairs}
    sys.argv[:] = [words.get(each, each) for each in sys.argv]
    return [words.get(each, each) for each in overrides]


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def run(config: DictConfig) -> float | None:
    """Run one job; Hydra has created its run directory and opened its log.

    Returns:
        The metric of a job of a sweep, for whatever sweeps.
    """
    with user_errors():
        if place().rank > 0:
            logging.disable(logging.WARNING)  # the first process says the same
        known = HydraConfig.get()
        plain = plain_of_job(config, known)
        if known.mode == RunMode.MULTIRUN:  # else `main` has checked it
            refuse_faults(plain)
            return run_once(plain.values, act)
        act(plain.values)
    return None


def taken_over(config: DictConfig, overrides: Sequence[str], is_sweep: bool) -> list[str]:
    """Return the overrides that come from the checkpoint: group choices, and its path.

    Args:
        config: Composed of the command line, with its `hydra` node.
        overrides: Overrides of the command line.
        is_sweep: Whether several runs are wanted. Each job then finds its newest run by itself, and
            if the sweep is over checkpoints, its choices as well.
    """
    parsed = overrides_of(overrides)
    if any(each.key_or_group == "ckpt" and each.is_sweep_override() for each in parsed):
        return []
    wanted = set(CHOSEN) - {each.key_or_group for each in parsed}
    if not is_sweep:
        wanted.add("ckpt")
    more = [text for text in typed(config.hydra) if text not in overrides]
    return [text for text in more if text.split("=")[0] in wanted]


def plain_of_job(config: DictConfig, known: HydraConf) -> PlainConfig:
    """Return the plain configuration of a job that Hydra has composed.

    What was typed and differs from the job's checkpoint is logged.

    Args:
        config: The job's configuration.
        known: Its `hydra` node.
    """
    overrides = typed(known)
    stored = None
    if takes_over(config.action, config.ckpt):
        stored = read_stored(config.ckpt)
    if stored is None:
        return to_plain(config, choices(known), overrides)
    plain = compose_plain(overrides, config_dir_of(known))
    plain.values["paths"]["output"] = known.runtime.output_dir
    plain.values["overrides"] = overrides
    for line in typed_differences(plain.values, stored, overrides):
        log.warning("%s", line)
    return plain


def act(config: dict[str, Any]) -> None:
    """Run the action in this process, or in one process per device."""
    from parcnet_train.build import processes_to_start

    processes = processes_to_start(config)
    if processes == 1:
        function_of(config)(config)
        return
    from parcnet_train.distributed.launch import launch

    command = [*command_of(HydraConfig.get(), config["ckpt"]), "hydra.output_subdir=null"]
    if code := launch(command, processes):
        sys.exit(code)


def function_of(config: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Import and return the function of a configuration's action; torch takes seconds."""
    module, _, name = str(ACTIONS[config["action"]].function).rpartition(".")
    function: Callable[[dict[str, Any]], dict[str, Any]] = getattr(
        importlib.import_module(module), name
    )
    return function


def refuse_unwritable(config: DictConfig, is_sweep: bool) -> None:
    """Check that Hydra can write its directory; create the folder around that of a run.

    Raises:
        ConfigError: where that is not possible.
    """
    HydraConfig.instance().set_config(config)  # what `${hydra:...}` is looked up in
    key = "hydra.sweep.dir" if is_sweep else "hydra.run.dir"
    path = Path(config.hydra.sweep.dir if is_sweep else config.hydra.run.dir)
    # Hydra may give a new run a later name.
    folder = path if is_sweep or os.access(path, os.F_OK) else path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        way_out = "paths.runs" if is_sweep or names_its_directory(config) else key
        raise ConfigError(
            f"{key}={path} cannot be written: {reason_of(error)}. Fix: {way_out}=PATH"
        ) from error


def wrong_place(is_sweep: bool, names_its_directory: bool) -> list[Fault]:
    """Return faults of commands that torchrun or srun cannot run.

    Args:
        is_sweep: Whether several runs are wanted.
        names_its_directory: Whether the run chooses where it writes.
    """
    here = place()
    if here.world_size > 1 and is_sweep:
        return [
            Fault(
                "",
                f"-m: {here.started_by} has started {here.world_size} processes of one sweep. Fix: "
                f"leave {here.started_by} out, every run starts its own: trainer=ddp "
                "trainer.devices=N",
            )
        ]
    if here.world_size > 1 and here.run_name is None and names_its_directory:
        return [
            Fault(
                "hydra.run.dir",
                "torchrun gave no name to this run, so its processes cannot agree on a directory. "
                "Fix: torchrun --standalone on one machine, --rdzv-id=NAME on several, or "
                "hydra.run.dir=PATH",
            )
        ]
    return []


def check_jobs(
    arguments: Namespace, is_sweep: bool, hydra_config: Any, faults: Sequence[Fault]
) -> None:
    """Check every configuration of a command, and print how many there are.

    Args:
        arguments: Parsed command line.
        is_sweep: Whether the command runs several.
        hydra_config: The `hydra` node of the first of them.
        faults: Found before.

    Raises:
        ConfigError: if any of them has a fault.
    """
    launcher = hydra_config.runtime.choices["hydra/launcher"]
    is_here = not is_sweep or launcher in ("basic", OURS)
    jobs = jobs_of(is_sweep, arguments.overrides, hydra_config, arguments.config_dir)
    found: dict[Fault, list[str]] = {}  # names of the jobs with each fault
    seen: list[Any] = []  # data whose files were read
    for name, overrides in jobs.overrides.items():
        try:
            config, of_job = compose_config(overrides, arguments.config_dir)
            plain = to_plain(config, choices(config.hydra))
            data = {**plain.values.get("data", {}), "seed": None}
            if data in seen and plain.values["check"]["data"] == "full":
                plain.values["check"]["data"] = "sample"
            seen.append(data)
            refuse_faults(plain, of_job, is_here)
        except ConfigError as error:
            for fault in error.faults:
                found.setdefault(fault, []).append(name)
    lines = [*faults, *(told(*each, jobs) for each in found.items() if each[0] not in faults)]
    if lines and not is_sweep:
        lines += sweeps(arguments.overrides)
    if lines:
        raise ConfigError(list(dict.fromkeys(lines)))
    shown = " ".join(f"{k}={v}" for k, v in plain.values["choices"].items() if v)
    if jobs.count > 1:
        shown = f"{len(jobs.overrides):,} of {jobs.count:,} configurations checked"
        shown += "" if is_sweep else "; -m runs them"
    print(f"no faults: {shown}")


def told(fault: Fault, names: Sequence[str], jobs: Jobs) -> Fault:
    """Add the jobs of a sweep that have a fault to its message, unless all have it."""
    if len(names) == len(jobs.overrides):
        return fault
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return Fault(fault.key, f"{fault} (in {names[0]}{others})")


def refuse_faults(plain: PlainConfig, faults: Sequence[Fault] = (), is_here: bool = True) -> None:
    """Raise all faults of a configuration at once.

    Args:
        plain: Configuration to check.
        faults: Faults that were found before.
        is_here: Whether this machine runs it.

    Raises:
        ConfigError: where there is any.
    """
    # A key whose override was left out may have no value for that reason alone.
    named = {fault.key for fault in faults}
    if plain.values.get("action") != "check":  # which is asked for all faults, whatever they take
        quick = [*faults, *(fault for fault in typed_faults(plain) if fault.key not in named)]
        if quick:
            raise ConfigError(quick)
    from parcnet_train.check.config import check  # torch: seconds

    of_values = [fault for fault in plain.faults if fault.key not in named]
    found = [*faults, *of_values, *check(plain.values, plain.borrowed, is_here)]
    if found:
        raise ConfigError(found)


if __name__ == "__main__":
    main()

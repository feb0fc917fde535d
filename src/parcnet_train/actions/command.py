"""What a command does: compose, check, choose a directory, and let Hydra start its jobs there.

The command line (`__main__`) and Python (`actions/api.py`) both come here.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.conf import HydraConf
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from parcnet_train.actions.check import OURS, check_jobs, refuse_faults
from parcnet_train.compat.garbage import collection
from parcnet_train.config.compose import (
    CONF,
    PlainConfig,
    as_meant,
    choices,
    compose_config,
    compose_plain,
    names_its_directory,
    to_plain,
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
from parcnet_train.config.typed import run_spec
from parcnet_train.distributed.processes import place
from parcnet_train.distributed.user_errors import user_errors
from parcnet_train.errors import ConfigError, Fault, ProcessError, UserError, reason_of
from parcnet_train.files import FULL, unwritable
from parcnet_train.runs.actions import ACTIONS, examines
from parcnet_train.runs.claims import at_work, claim, failure_noted
from parcnet_train.runs.directories import RESULTS, read_values
from parcnet_train.sweeps.grid import swept_keys, wrong_sweep
from parcnet_train.sweeps.jobs import run_once

log = logging.getLogger(__name__)

NAME = "parcnet_train"  # of the program, for Hydra
SUBDIR = "hydra.sweep.subdir"


def run_command(
    overrides: Sequence[str],
    config_dir: str | None = None,
    multirun: bool | None = None,
    is_job: bool = False,
) -> Any:
    """Run one action, or a sweep.

    Args:
        overrides: Overrides as typed.
        config_dir: Folder of your own configs beside the package's.
        multirun: Whether to run a sweep; None: as `hydra.mode` says.
        is_job: Whether the command is a job of a sweep, which has chosen its directory.

    Returns:
        The results of the action as a dict; of a sweep, whatever its sweeper returns.

    Raises:
        UserError: For everything that a user can fix.
    """
    config, faults = compose_config(overrides, config_dir)
    plain = to_plain(config, choices(config.hydra))
    is_sweep = config.hydra.mode == RunMode.MULTIRUN if multirun is None else multirun
    launcher = config.hydra.runtime.choices["hydra/launcher"]
    faults += wrong_place(is_sweep, names_its_directory(config))
    if not is_job:  # of a sweep, whose file may hold more than what is swept
        faults += wrong_sweep(is_sweep, overrides, config.hydra, config_dir)
    overrides = [each.input_line or "" for each in as_meant(overrides_of(overrides), config)]
    is_check = plain.values["action"] == "check"
    several = is_sweep or bool(sweeps(overrides))
    if is_check and (several or not examines(plain.values.get("check"))):
        return check_jobs(overrides, config_dir, is_sweep, config, faults)
    if not is_sweep:
        faults += sweeps(overrides)
    if is_sweep and launcher == OURS:
        if faults:  # the launcher checks the jobs, and their processes do
            raise ConfigError(faults)
    else:
        # An examination reports what it finds in the files, so they are not checked before.
        is_here = launcher == "basic" or not is_sweep
        refuse_faults(plain, faults, is_here, reads_files=not is_check)
    if not is_sweep and not ACTIONS[plain.values["action"]].recorded:
        collection.resume()
        return act(plain.values)
    refuse_unwritable(config, is_sweep)
    work: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    added = []
    if is_sweep and not any(text.startswith(SUBDIR) for text in overrides):
        keys = ",".join(swept_keys(overrides, config.hydra))
        added.append(f"{SUBDIR}=${{job_dir:{keys}}}")
    if not is_sweep:
        named = None if names_its_directory(config) else Path(config.hydra.run.dir)
        folder = named if is_job and named else claim(run_spec(plain.values), overrides, named)
        added.append(f"hydra.run.dir={quoted(str(folder))}")
        work = at_work(folder, overrides)
    if place().rank > 0:  # the first process alone writes `.hydra`
        added.append("hydra.output_subdir=null")
    added += taken_over(config, overrides, is_sweep)
    with work:
        return start([*overrides, *added], config_dir, is_sweep)


def start(overrides: Sequence[str], config_dir: str | None = None, is_sweep: bool = False) -> Any:
    """Let Hydra create the directory and the log of a job, or of a sweep, and run it.

    Args:
        overrides: Checked overrides.
        config_dir: Folder of your own configs beside the package's.
        is_sweep: Whether Hydra's sweeper runs several jobs.

    Returns:
        See `run_command`.

    Raises:
        UserError: For everything that a user can fix.
    """
    collection.resume()
    version.setbase("1.3")
    paths = create_config_search_path(str(CONF))
    if config_dir is not None:
        folder = Path(config_dir).expanduser().resolve()
        paths.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    hydra = Hydra.create_main_hydra2(NAME, paths)
    try:
        if is_sweep:
            return hydra.multirun("config", run_job, [*overrides, "hydra.mode=MULTIRUN"])
        job = hydra.run("config", run_job, [*overrides, "hydra.mode=RUN"])
    except OSError as error:  # Hydra writes its own files; the error of a single job is in the job
        if is_sweep and error.errno not in FULL:
            raise
        written = "the directory of the sweep" if is_sweep else "the run directory"
        raise unwritable(error.filename or written, error) from error
    finally:
        GlobalHydra.instance().clear()
    found = job.return_value
    if isinstance(found, Exception):
        raise found
    return found


def run_job(config: DictConfig) -> Any:
    """Run one job; Hydra has created its run directory and opened its log.

    Returns:
        The metric of a job of a sweep, for whatever sweeps; otherwise the results of the action, or
        the error that a user can fix, since Hydra prints a line of its own about an exception.

    Raises:
        UserError: From a job of a sweep. Launchers return it to the command that started the job;
            a process that exited instead would be started again by Ray.
    """
    if place().rank > 0:
        logging.disable(logging.WARNING)  # the first process says the same
    known = HydraConfig.get()
    if known.mode == RunMode.MULTIRUN:  # else `run_command` has checked it
        # One of several tasks of submitit must exit, since the others wait for it.
        is_several = place().world_size > 1
        with user_errors() if is_several else contextlib.nullcontext():
            plain = plain_of_job(config, known)
            refuse_faults(plain)
            return run_once(plain.values, act)
    try:
        return act(plain_of_job(config, known).values)
    except UserError as error:
        return error
    except Exception as error:
        if place().world_size == 1:
            raise
        return error  # Hydra's line would come before that of the process that found the cause


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


def act(config: dict[str, Any]) -> dict[str, Any]:
    """Run the action in this process, or in one process per device.

    Returns:
        Its results.

    Raises:
        ProcessError: If one of several processes has failed.
    """
    if not ACTIONS[config["action"]].parallel:
        return function_of(config["action"])(config)
    from parcnet_train.build import processes_to_start  # torch: seconds

    output = Path(config["paths"]["output"])
    processes = processes_to_start(config)
    if processes == 1:
        with failure_noted(output):
            return function_of(config["action"])(config)
    from parcnet_train.distributed.launch import launch

    command = [*command_of(HydraConfig.get(), config["ckpt"]), "hydra.output_subdir=null"]
    if code := launch(command, processes):
        raise ProcessError(processes, code)
    return read_values(output / RESULTS)


def function_of(action: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Import and return the function of an action; torch takes seconds."""
    module, _, name = str(ACTIONS[action].function).rpartition(".")
    function: Callable[[dict[str, Any]], dict[str, Any]] = getattr(
        importlib.import_module(module), name
    )
    return function


def refuse_unwritable(config: DictConfig, is_sweep: bool) -> None:
    """Check that Hydra can write its directory; create the folder around that of a run.

    Raises:
        ConfigError: If that is not possible.
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

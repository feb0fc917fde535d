"""Python's way to the commands: `parcnet_train.run(...)` and `parcnet_train.compose(...)`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from parcnet_train.actions.check import refuse_faults
from parcnet_train.actions.command import run_command
from parcnet_train.config.compose import choices, compose_config, to_plain
from parcnet_train.config.overrides import sweeps
from parcnet_train.files import to_json
from parcnet_train.sweeps.grid import register_resolvers


def run(*overrides: str, config_dir: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Do what `python -m parcnet_train OVERRIDES` does, in this process.

    The run has the same checks, directory, log and files as that of a command. During the run,
    logging goes to the console and to the log of the run.

    Args:
        overrides: Overrides as typed in a command line, without the quotes of a shell:
            `"task=detection", "recipe.epochs=2"`.
        config_dir: Folder of your own configs beside the package's, as `--config-dir` takes it.

    Returns:
        The results of the action, as in the `results.json` of its run: of `action=fit` and
        `action=test` the metrics, of `action=export` the files and their check.

    Raises:
        UserError: For everything that a user can fix; the message has one line per fault.
    """
    folder = None if config_dir is None else os.fspath(config_dir)
    with own_state():
        found = run_command(overrides, folder, multirun=False)
    results: dict[str, Any] = json.loads(to_json(found))  # a value that is no number is None there
    return results


def compose(*overrides: str, config_dir: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Compose and check the configuration of a command, without running it.

    Args:
        overrides: Overrides as in `run`.
        config_dir: Folder of your own configs, as in `run`.

    Returns:
        The configuration as plain dicts, lists, strings and numbers; `choices` has the name of the
        chosen config of every group. `paths.output` is empty, since no directory is chosen.

    Raises:
        UserError: For everything that a user can fix; the message has one line per fault.
    """
    folder = None if config_dir is None else os.fspath(config_dir)
    with own_state():
        config, faults = compose_config(overrides, folder)
        plain = to_plain(config, choices(config.hydra), overrides)
        refuse_faults(plain, [*faults, *sweeps(overrides)])
    return plain.values


@contextlib.contextmanager
def own_state() -> Iterator[None]:
    """Restore what Hydra and a run change in this process: Hydra's globals, and logging."""
    register_resolvers()
    root, singleton = logging.getLogger(), HydraConfig.instance()
    handlers, level, disabled = root.handlers[:], root.level, root.manager.disable
    config, running = singleton.cfg, GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()  # the caller may be a program of Hydra itself
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = running
        singleton.cfg = config
        for handler in root.handlers[:]:
            if handler not in handlers:
                root.removeHandler(handler)
                handler.close()
        for handler in handlers:
            root.addHandler(handler)  # unless it is there
        root.setLevel(level)
        logging.disable(disabled)

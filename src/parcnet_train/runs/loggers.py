"""Loggers that never stop a training, and W&B's settings."""

from __future__ import annotations

import functools
import logging
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger

from parcnet_train.distributed.processes import place
from parcnet_train.errors import ConfigError, first_line
from parcnet_train.runs.claims import begin

log = logging.getLogger(__name__)

# What Lightning and our callbacks call of a logger.
METHODS = (
    "log_hyperparams",
    "log_metrics",
    "log_graph",
    "log_image",
    "save",
    "after_save_checkpoint",
    "finalize",
)
HINT = " (WANDB_MODE=offline logs into the run directory)"

_failed: weakref.WeakSet[Logger] = weakref.WeakSet()


def harmless(logger: Logger) -> Logger:
    """The same logger; what its methods raise becomes one warning, and it is off from then on."""
    for name in METHODS:
        if method := getattr(logger, name, None):
            setattr(logger, name, functools.partial(attempt, logger, method))
    return logger


def attempt(logger: Logger, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Calls something of a logger that has not failed yet.

    Args:
        logger: whose failure ends it.
        call: what is called.
        *arguments: for it.
        **named: for it.
    """
    if logger in _failed:
        return None
    try:
        return call(*arguments, **named)
    except Exception as error:  # whatever it is, the training is worth more
        _failed.add(logger)
        hint = HINT if isinstance(logger, WandbLogger) else ""
        name, reason = type(logger).__name__, first_line(error)
        log.warning("%s failed: %s; the training goes on without it%s", name, reason, hint)
        return None


def working(loggers: Iterable[Logger]) -> list[Logger]:
    """The loggers that can be opened; Lightning opens those that it is given, come what may."""
    opened = []
    for logger in loggers:
        attempt(logger, getattr, logger, "experiment", None)
        if logger not in _failed:
            opened.append(logger)
    return opened


def wandb_settings(settings: Mapping[str, Any], output: Path) -> dict[str, Any]:
    """Settings of a W&B logger: one directory is one W&B run, offline if there is no key.

    Args:
        settings: of the configuration; an `id` or a `mode` there counts.
        output: the run directory, whose record has the id.

    Raises:
        ConfigError: If wandb is not installed.
    """
    try:
        import wandb  # takes a second
    except ImportError as error:
        raise ConfigError(
            "logger=wandb: the package wandb is not installed. Fix: pip install "
            "'parcnet-train[wandb]'"
        ) from error

    added: dict[str, Any] = {}
    if wandb.run is not None:  # of another run of this process, which it would go on with
        wandb.finish()
    if place().rank == 0 and "WANDB_RUN_ID" not in os.environ:
        added["id"] = begin(output)["id"]
    try:
        has_key = wandb.login(prompt=False, verify=False)
        reason = "has no API key"
    except Exception as error:  # such as a key that is none
        has_key, reason = False, f"refuses its API key: {first_line(error)}"
    # Lightning's own `offline` comes too late once wandb has looked for a key.
    if not has_key and "WANDB_MODE" not in os.environ:
        added["mode"] = "offline"
        log.info("wandb %s: logging offline into %s", reason, output)
    return {**added, **settings}

"""Loggers whose failures never stop a training, and settings of W&B."""

from __future__ import annotations

import csv
import functools
import io
import logging
import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

from parcnet_train.distributed.processes import place
from parcnet_train.errors import ConfigError, first_line
from parcnet_train.files import write_whole
from parcnet_train.runs.claims import begin

log = logging.getLogger(__name__)

# Logger methods that Lightning and our callbacks call.
METHODS = (
    "log_hyperparams",
    "log_metrics",
    "log_graph",
    "log_image",
    "save",
    "after_save_checkpoint",
    "finalize",
)
HINT = ". Fix: WANDB_MODE=offline logs into the run directory"

_failed: weakref.WeakSet[Logger] = weakref.WeakSet()


def harmless(logger: Logger) -> Logger:
    """Make a logger harmless: its first exception becomes a warning and disables it."""
    for name in METHODS:
        if method := getattr(logger, name, None):
            setattr(logger, name, functools.partial(attempt, logger, method))
    return logger


def attempt(logger: Logger, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call a function of a logger, unless the logger has failed before.

    Args:
        logger: Logger that an exception disables.
        call: Function to call.
        *arguments: Positional arguments of the call.
        **named: Keyword arguments of the call.
    """
    if logger in _failed:
        return None
    try:
        return call(*arguments, **named)
    except Exception as error:  # no error of a logger may stop a training
        _failed.add(logger)
        hint = HINT if isinstance(logger, WandbLogger) else ""
        name, reason = type(logger).__name__, first_line(error)
        log.warning("%s failed: %s; the training continues without it%s", name, reason, hint)
        return None


def working(loggers: Iterable[Logger]) -> list[Logger]:
    """Return the loggers that can be opened; Lightning would fail at the others."""
    opened = []
    for logger in loggers:
        attempt(logger, getattr, logger, "experiment", None)
        if logger in _failed:
            continue
        if isinstance(logger, CSVLogger) and "://" not in logger.log_dir:  # not in a store
            keep_rows(logger.experiment)
        opened.append(logger)
    return opened


def keep_rows(writer: Any) -> None:
    """Make the writer of a `CSVLogger` add columns atomically.

    Lightning truncates the file and writes all rows anew, so a full disk would lose them.

    Args:
        writer: `CSVLogger.experiment`.
    """

    def rewrite(columns: Sequence[str]) -> None:
        path = Path(writer.metrics_file_path)
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        stream = io.StringIO(newline="")
        table = csv.DictWriter(stream, columns)
        table.writeheader()
        table.writerows(rows)
        write_whole(path, stream.getvalue().encode())

    writer._rewrite_with_new_header = rewrite


def wandb_settings(settings: Mapping[str, Any], output: Path) -> dict[str, Any]:
    """Return the settings of a W&B logger: one W&B run per directory, offline without a key.

    Args:
        settings: Settings from the configuration, which take precedence.
        output: Run directory, whose record contains the id.

    Raises:
        ConfigError: If wandb is not installed.
    """
    try:
        import wandb  # the import takes a second
    except ImportError as error:
        raise ConfigError(
            "logger=wandb: the package wandb is not installed. Fix: pip install "
            "'parcnet-train[wandb]'"
        ) from error

    added: dict[str, Any] = {}
    if wandb.run is not None:  # otherwise W&B continues the earlier run of this process
        wandb.finish()
    if place().rank == 0 and "WANDB_RUN_ID" not in os.environ:
        added["id"] = begin(output)["id"]
    try:
        has_key = wandb.login(prompt=False, verify=False)
        reason = "has no API key"
    except Exception as error:  # such as an invalid key
        has_key, reason = False, f"rejects its API key: {first_line(error)}"
    # Lightning's own option `offline` takes effect only after wandb has looked for a key.
    if not has_key and "WANDB_MODE" not in os.environ:
        added["mode"] = "offline"
        log.info("wandb %s; it logs offline into %s", reason, output)
    return {**added, **settings}

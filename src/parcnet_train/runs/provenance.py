"""Provenance of a run, `provenance.json`: configuration, code, environment, data and sessions.

    config  overrides  config_hash  seed       resolved configuration
    git  packages  python  hardware            environment; git is null outside of a checkout
    data                                       numbers of images, hashes of files and labels
    sessions                                   one entry per start of a resumed training

If the checkout has uncommitted changes, they are in `git.diff` beside it. Everything except
`sessions` describes the last start. Provenance never stops a run: a failure gives a warning.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from parcnet_train.distributed.processes import place
from parcnet_train.errors import first_line
from parcnet_train.files import write_whole
from parcnet_train.runs.directories import PROVENANCE, config_hash, list_in, read_values
from parcnet_train.runs.environment import hardware, packages, python_version
from parcnet_train.runs.git import DIFF, Revision, find_revision

log = logging.getLogger(__name__)


class Fingerprinted(Protocol):
    """Data module with a fingerprint."""

    def fingerprint(self) -> dict[str, Any]:
        """Return values that identify the data."""


class Provenance:
    """Writer of `provenance.json` from start to end of a run; only rank 0 writes.

    It records the document as a whole, so it takes a plain configuration.

    Args:
        config: Whole configuration as plain values.
        world_size: Number of processes.
        from_epoch: First epoch of a training, counted from 0; None: the run is no training.
    """

    def __init__(
        self, config: Mapping[str, Any], world_size: int, from_epoch: int | None = None
    ) -> None:
        self.config = config
        self.folder = Path(config["paths"]["output"])
        self.content: dict[str, Any] = {}
        self.session: dict[str, Any] = {
            "started": now(),
            "ended": None,
            "cpu_seconds": None,
            "from_epoch": from_epoch,
            "world_size": world_size,
            "overrides": config["overrides"],
        }
        self.earlier: list[Any] = []
        self.used = processor_time()

    def goes_on(self, epoch: int) -> None:
        """Record that the training resumes from a checkpoint, also from another run.

        Args:
            epoch: First epoch after the checkpoint, counted from 0.
        """
        self.session["from_epoch"] = epoch
        self.earlier = list_in(read_values(self.folder / PROVENANCE), "sessions")

    def __enter__(self) -> Provenance:
        """Write everything that is known at the start."""
        with self.harmless():
            revision = find_revision()
            self.session["revision"] = revision and revision.name
            self.content = {
                **described(self.config, revision),
                "data": None,
                "sessions": [*self.earlier, self.session],
            }
            self.write()
            self.write_diff(revision)
        return self

    def note(self, data: Fingerprinted) -> None:
        """Add the fingerprint of the data, whose data sets exist by now."""
        with self.harmless():
            self.content["data"] = data.fingerprint()
            self.write()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write the end and the processor time, however the run ends."""
        with self.harmless():
            self.session["ended"] = now()
            self.session["cpu_seconds"] = round(processor_time() - self.used, 1)
            self.write()

    @contextlib.contextmanager
    def harmless(self) -> Iterator[None]:
        """Turn any exception into a warning."""
        try:
            yield
        except Exception as error:  # no error of the provenance may stop a run
            log.warning("%s is incomplete: %s", self.folder / PROVENANCE, first_line(error))

    def write(self) -> None:
        """Write the file atomically."""
        if place().rank == 0 and self.content:
            text = json.dumps(self.content, indent=2, default=str)
            write_whole(self.folder / PROVENANCE, f"{text}\n".encode())

    def write_diff(self, revision: Revision | None) -> None:
        """Write the uncommitted changes; without any, remove the diff of an earlier start."""
        if place().rank > 0:
            return
        if revision is not None and revision.diff:
            write_whole(self.folder / DIFF, revision.diff)
        else:
            (self.folder / DIFF).unlink(missing_ok=True)


def described(config: Mapping[str, Any], revision: Revision | None) -> dict[str, Any]:
    """Return everything that is known before the data are listed.

    Args:
        config: Whole configuration as plain values, which is recorded.
        revision: State of the checkout; None outside of one.
    """
    return {
        "config": {name: value for name, value in config.items() if name != "overrides"},
        "overrides": config["overrides"],
        "config_hash": config_hash(config),
        "seed": config["seed"],
        "git": revision and revision.described(),
        "packages": packages(),
        "python": python_version(),
        "hardware": hardware(),
    }


def processor_time() -> float:
    """Return the seconds of all processors that this process and its ended children have used."""
    return sum(os.times()[:4])


def now() -> str:
    """Return the current time in the local time zone, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")

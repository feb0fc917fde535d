"""`provenance.json` of a run: what was asked for, of which code, with what, on which data, when.

    config  overrides  config_hash  seed       what was run, resolved
    git  packages  python  hardware            with what; git: null outside of a checkout
    data                                       numbers of images, hashes of files and labels
    sessions                                   one for each start of a training that went on

Beside it `git.diff`, where the checkout is not as committed. All but `sessions` is that of the last
start. No run fails for it: what cannot be found out is a warning.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from parcnet_train.distributed.processes import place
from parcnet_train.errors import first_line
from parcnet_train.files import write_whole
from parcnet_train.runs.directories import PROVENANCE, config_hash, read_values
from parcnet_train.runs.environment import hardware, packages, python_version
from parcnet_train.runs.git import DIFF, Revision, find_revision

log = logging.getLogger(__name__)


class Fingerprinted(Protocol):
    """A data module."""

    def fingerprint(self) -> dict[str, Any]:
        """What tells its data from other data."""


class Provenance:
    """Keeps the file of a run from its start to its end, in the first of its processes.

    Args:
        config: the whole configuration as plain values.
        world_size: number of processes.
        from_epoch: that a training begins with, counted from 0; None: it is no training.
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
            "from_epoch": from_epoch,
            "world_size": world_size,
            "overrides": config["overrides"],
        }
        self.earlier: list[Any] = []

    def goes_on(self, epoch: int) -> None:
        """Tells that the training goes on from a checkpoint, here or in another run's directory.

        Args:
            epoch: that it goes on with, counted from 0.
        """
        self.session["from_epoch"] = epoch
        self.earlier = read_values(self.folder / PROVENANCE).get("sessions", [])

    def __enter__(self) -> Provenance:
        """Writes all that is known at the start."""
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
        """Adds the data, whose sets are made by now."""
        with self.harmless():
            self.content["data"] = data.fingerprint()
            self.write()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Writes the time, however the run ends."""
        with self.harmless():
            self.session["ended"] = now()
            self.write()

    @contextlib.contextmanager
    def harmless(self) -> Iterator[None]:
        """Turns what goes wrong into a warning."""
        try:
            yield
        except Exception as error:  # whatever it is, the run is worth more
            log.warning("%s is not complete: %s", self.folder / PROVENANCE, first_line(error))

    def write(self) -> None:
        """Writes the file as a whole."""
        if place().rank == 0 and self.content:
            text = json.dumps(self.content, indent=2, default=str)
            write_whole(self.folder / PROVENANCE, f"{text}\n".encode())

    def write_diff(self, revision: Revision | None) -> None:
        """Writes what is not committed; removes what an earlier start has left of that."""
        if place().rank > 0:
            return
        if revision is not None and revision.diff:
            write_whole(self.folder / DIFF, revision.diff)
        else:
            (self.folder / DIFF).unlink(missing_ok=True)


def described(config: Mapping[str, Any], revision: Revision | None) -> dict[str, Any]:
    """All that is known before the data are listed."""
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


def now() -> str:
    """This moment, in this machine's time zone, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")

"""Actions: one row for each, from which everything that depends on `action=` is derived.

Imports nothing that takes time: the command line is read, and directories are named, by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Values = Mapping[str, Any]  # a configuration's plain values


def always(values: Values) -> bool:
    """Whether data are read: yes."""
    return True


def never(values: Values) -> bool:
    """Whether data are read: no."""
    return False


def times_data(values: Values) -> bool:
    """Whether a benchmark reads data."""
    settings = values.get("benchmark")
    return isinstance(settings, Mapping) and settings.get("target") in ("loader", "overhead")


def compares_or_calibrates(values: Values) -> bool:
    """Whether an export reads data: to be verified, or for the ranges of int8."""
    settings = values.get("export")
    return isinstance(settings, Mapping) and (
        settings.get("verify") != "none" or settings.get("precision") == "int8"
    )


@dataclass(frozen=True)
class Action:
    """One value of `action=`.

    Attributes:
        name: The value.
        function: Dotted name of the function that does it; imported when it runs. None: `__main__`
            does it.
        section: Section of the configuration that no other action reads; None: there is none.
        checkpoint: Whether `ckpt` must, may or cannot be given.
        composed: Whether the configuration of the checkpoint is taken over.
        trains: Whether it is about a training, which resumes from its last checkpoint; others read
            the best one.
        reads_data: Whether a configuration's data are looked at.
        folder: Whether its runs stand in a folder of its name, for they belong to no training.
        parallel: Whether it runs in as many processes as the run has devices.
        network: Whether the composed network is built.
    """

    name: str
    function: str | None
    section: str | None = None
    checkpoint: Literal["needed", "optional", "none"] = "needed"
    composed: bool = False
    trains: bool = False
    reads_data: Callable[[Values], bool] = always
    folder: bool = False
    parallel: bool = False
    network: bool = True

    @property
    def evaluates(self) -> bool:
        """Whether it is about a training that is over; its directory stands beside that one's."""
        return self.checkpoint == "needed" and not self.folder


A = "parcnet_train.actions"
ACTIONS = {
    each.name: each
    for each in (
        Action("fit", f"{A}.fit.fit", checkpoint="optional", trains=True, parallel=True),
        Action("test", f"{A}.fit.test", composed=True, parallel=True),
        Action(
            "predict",
            f"{A}.predict.predict",
            section="predict",
            reads_data=never,
            folder=True,
            network=False,
        ),
        Action("average", f"{A}.average.average", composed=True, parallel=True),
        Action(
            "export",
            f"{A}.export.export.export",
            section="export",
            composed=True,
            reads_data=compares_or_calibrates,
        ),
        Action(
            "profile",
            f"{A}.profile.profile",
            section="profile",
            checkpoint="none",
            reads_data=never,
            folder=True,
        ),
        Action(
            "benchmark",
            f"{A}.benchmark.benchmark.benchmark",
            section="benchmark",
            checkpoint="optional",
            composed=True,
            reads_data=times_data,
            folder=True,
        ),
        Action(
            "report",
            f"{A}.report.report",
            section="report",
            checkpoint="none",
            reads_data=never,
            folder=True,
            network=False,
        ),
        Action("check", None, section="check", checkpoint="optional", trains=True),
        Action(
            "schema",
            f"{A}.schema.schema",
            checkpoint="none",
            reads_data=never,
            folder=True,
            network=False,
        ),
    )
}
# Sections that one action reads.
SECTIONS = tuple(each.section for each in ACTIONS.values() if each.section)


def action_of(values: Values) -> Action | None:
    """The action of a configuration; None if it names none that exists."""
    return ACTIONS.get(str(values.get("action")))


def reads_data(values: Values) -> bool:
    """Whether a run with these values looks at its data."""
    action = action_of(values)
    return action is None or action.reads_data(values)

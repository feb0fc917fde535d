"""Table of actions: everything that depends on `action=` is derived from it.

This module imports nothing slow, since reading the command line and naming directories need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Section = Mapping[str, Any]  # the section of a configuration that belongs to one action


def always(section: Section | None) -> bool:
    """Return True: the action always reads data."""
    return True


def never(section: Section | None) -> bool:
    """Return False: the action never reads data."""
    return False


def times_data(section: Section | None) -> bool:
    """Return whether a benchmark reads data."""
    if section is None:
        return False
    return section.get("target") in ("loader", "overhead", "plan") or times_images(section)


def times_images(section: Section) -> bool:
    """Return whether a benchmark times a trained network on images of its validation set."""
    return section.get("target") == "latency" and section.get("protocol") == "mlperf_mobile"


def examines(section: Section | None) -> bool:
    """Return whether action=check also reads all files, in a run of its own."""
    if section is None:
        return False
    return section.get("data") in ("headers", "full") or section.get("predictions") is not None


def compares_or_calibrates(section: Section | None) -> bool:
    """Return whether an export reads data: for verification, or to calibrate int8."""
    return section is not None and (
        section.get("verify") != "none"
        or (section.get("precision") == "int8" and section.get("calibration") is None)
    )


@dataclass(frozen=True)
class Action:
    """One value of `action=`.

    Attributes:
        name: Value of `action`.
        function: Dotted name of its function, which is imported when it runs.
        section: Section of the configuration that belongs to this action; None: there is none.
        checkpoint: Whether `ckpt` is needed, optional or not allowed.
        composed: Whether the configuration stored in the checkpoint is used.
        trains: Whether it concerns a training, which resumes from its last checkpoint; other
            actions read the best one.
        reads_data: Function that returns whether the data are read, from the values of the section;
            None stands for a section that is missing or invalid.
        folder: Whether its runs have their own folder, since they belong to no training.
        parallel: Whether it runs in one process per device.
        network: Whether the composed network is built.
        quick: Whether it runs without torch, and only its own settings are checked.
        recorded: Whether it has a run directory, with a log and results.
    """

    name: str
    function: str
    section: str | None = None
    checkpoint: Literal["needed", "optional", "none"] = "needed"
    composed: bool = False
    trains: bool = False
    reads_data: Callable[[Section | None], bool] = always
    folder: bool = False
    parallel: bool = False
    network: bool = True
    quick: bool = False
    recorded: bool = True

    @property
    def evaluates(self) -> bool:
        """Whether it evaluates a training; its directory is beside that of the training."""
        return self.checkpoint == "needed" and not self.folder

    @property
    def own_runs(self) -> bool:
        """Whether its runs are in `runs/<action>/`, apart from trainings and their evaluations."""
        return self.folder or self.name == "check"


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
            "release",
            f"{A}.release.release.release",
            section="release",
            reads_data=never,
            folder=True,
            network=False,
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
        Action(
            "compare",
            f"{A}.compare.compare",
            section="report",
            checkpoint="none",
            reads_data=never,
            folder=True,
            network=False,
        ),
        Action(
            "watch",
            f"{A}.watch.watch.watch",
            section="watch",
            checkpoint="none",
            reads_data=never,
            network=False,
            quick=True,
            recorded=False,
        ),
        Action(
            "prepare",
            f"{A}.prepare.prepare",
            section="prepare",
            checkpoint="none",
            reads_data=never,
            folder=True,
            network=False,
            quick=True,
        ),
        Action(
            "check",
            f"{A}.examination.check_data",  # only if it reads all files; see `examines`
            section="check",
            checkpoint="optional",
            trains=True,
        ),
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
MEASURED = ("fit", "test", "average")  # actions whose results contain a metric
# Sections that only some actions read.
SECTIONS = tuple(dict.fromkeys(each.section for each in ACTIONS.values() if each.section))


def action_of(name: object) -> Action | None:
    """Return the action with a name, the value of `action`; None if there is no such action."""
    return ACTIONS.get(str(name))

"""Table 2 of the paper beside our runs, and the runs that belong to none of its rows."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from parcnet_train.config.keys import flatten
from parcnet_train.errors import ConfigError
from parcnet_train.report.collected import Run, newest_of_seeds, task_of
from parcnet_train.report.paired import Difference, paired_difference
from parcnet_train.report.paper.tables import TABLE_2, TASKS, Row
from parcnet_train.report.recipes import (
    Facts,
    mixed_recipes,
    other_surroundings,
    recipe_of,
    shown,
    told_of,
)
from parcnet_train.runs.directories import EVALUATIONS

NOT_RUN, NO_BASELINE = "not run", "baseline not run"
# Choices that can name a baseline, and those that it shares with the runs compared with it.
NAMING = ("ablation", "backbone", "experiment", "recipe")
SHARED = ("action", "task", "data", "monitor")
# The data set that the paper evaluates on, and our data config of the same data set.
PAPER_DATA = {
    "classification": ("ImageNet-1K", "imagenet"),
    "detection": ("MS-COCO", "coco"),
    "segmentation": ("PASCAL VOC", "voc"),
}


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed.

    Attributes:
        runs: Runs in the order of their seeds, one per seed.
    """

    runs: tuple[Run, ...]

    @property
    def values(self) -> dict[int, float]:
        """Metric of each run in percent, by seed."""
        return {run.seed: run.metric for run in self.runs}

    @property
    def mean(self) -> float:
        """Mean of the metric over the seeds, in percent."""
        return statistics.fmean(self.values.values())

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the metric over the seeds, None if there is only one seed."""
        return statistics.stdev(self.values.values()) if len(self.runs) > 1 else None

    @property
    def parameters(self) -> list[int]:
        """Parameter counts of the networks: several if the networks differ."""
        return sorted({int(run.results["parameters"]) for run in self.runs})


@dataclass(frozen=True)
class Line:
    """A row of Table 2.

    Attributes:
        row: Row as printed in the paper.
        group: Our runs of the row, None if there are none.
        difference: Difference to the baseline in percentage points, None if no seed is shared.
        verdict: Whether the difference exceeds noise, or why this is unknown.
    """

    row: Row
    group: Group | None
    difference: Difference | None
    verdict: str


@dataclass(frozen=True)
class Section:
    """All rows of one task.

    Attributes:
        task: Task name: classification, detection or segmentation.
        lines: Rows of the task.
        mixed: Unintended differences between the runs that may affect their metric.
        surroundings: Other differences between the runs, such as their machines.
        measured: Sentences that say which data and recipes the runs used.
    """

    task: str
    lines: list[Line]
    mixed: list[str]
    surroundings: list[str]
    measured: list[str]


@dataclass(frozen=True)
class Other:
    """Runs of one configuration that is not a row of Table 2.

    Attributes:
        name: Chosen configs.
        differs: Values that differ from those of other groups with the same chosen configs.
        group: Runs of the configuration.
        difference: Difference to the baseline on the same data in percentage points, None without
            a baseline or a shared seed.
        verdict: Whether the difference exceeds noise, or why this is unknown; empty without a
            baseline.
    """

    name: str
    differs: str
    group: Group
    difference: Difference | None = None
    verdict: str = ""

    @property
    def metric_name(self) -> str:
        """Name of the monitored metric, which selects the best epoch."""
        return str(self.group.runs[0].results["monitor"])


def compare_table2(runs: Sequence[Run]) -> tuple[list[Section], list[str]]:
    """Compare our runs with the rows of Table 2.

    Args:
        runs: All runs; those that belong to no row are ignored.

    Returns:
        One section per task, and one message for every row and seed with several runs.
    """
    groups: dict[int, Group] = {}
    superseded = []
    for row in TABLE_2:
        of_row = [run for run in runs if run.row == row]
        newest, lines = newest_of_seeds(of_row, f"row {row.number}")
        superseded += lines
        if newest:
            groups[row.number] = Group(tuple(newest))
    return [section(task, groups) for task in TASKS], superseded


def section(task: str, groups: dict[int, Group]) -> Section:
    """Compare the rows of one task with the first of them."""
    rows = [row for row in TABLE_2 if task_of(row) == task]
    baseline = groups.get(rows[0].number)
    labelled = [
        (row.number, run) for row in rows if row.number in groups for run in groups[row.number].runs
    ]
    return Section(
        task,
        [compare_line(row, groups.get(row.number), baseline) for row in rows],
        mixed_recipes(labelled),
        other_surroundings(labelled),
        measured(task, [run for _, run in labelled]),
    )


def compare_line(row: Row, group: Group | None, baseline: Group | None) -> Line:
    """Compare one row with its baseline."""
    if group is None:
        return Line(row, None, None, NOT_RUN)
    if group is baseline:
        return Line(row, group, None, "baseline")
    if baseline is None:
        return Line(row, group, None, NO_BASELINE)
    return Line(row, group, *compared(group, baseline))


def compared(group: Group, baseline: Group) -> tuple[Difference | None, str]:
    """Return the difference of a group to its baseline, and the verdict."""
    difference = paired_difference(group.values, baseline.values)
    return difference, difference.verdict if difference else "no shared seed"


def measured(task: str, runs: Sequence[Run]) -> list[str]:
    """Describe the data and recipes of some runs, and name the runs without provenance."""
    if not runs:
        return []
    has = {key: sorted({shown(run.results.get(key)) for run in runs}) for key in told_of(runs[0])}
    named = ", ".join(f"{key}={' and '.join(has[key])}" for key in ("data", "recipe", "epochs"))
    lines = [f"Ours: {named}. Paper: {PAPER_DATA[task][0]}, with its own recipe."]
    unknown = [run.name for run in runs if run.provenance is None]
    if unknown:
        lines.append(
            f"{len(unknown)} of {len(runs)} runs have no readable provenance.json; they are "
            f"compared only by the values in results.json: {', '.join(unknown)}"
        )
    return lines


def other_runs(runs: Iterable[Run]) -> tuple[list[Other], list[str]]:
    """Group the runs that belong to no row of Table 2 by everything except their seed.

    Returns:
        The groups, and one message for every seed with several runs.
    """
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        if run.row is None:
            facts = sorted(f"{key}={shown(value)}" for key, value in all_facts(run).items())
            groups.setdefault((choice_of(run), *facts), []).append(run)
    others, superseded = [], []
    for (choice, *facts), group in sorted(groups.items()):
        alike = [set(rest) for name, *rest in groups if name == choice]
        differs = ", ".join(each for each in facts if any(each not in has for has in alike))
        newest, lines = newest_of_seeds(group, ", ".join(filter(None, (choice, differs))))
        others.append(Other(choice, differs, Group(tuple(newest))))
        superseded += lines
    return others, superseded


def with_baseline(others: Sequence[Other], baseline: str) -> list[Other]:
    """Compare groups of runs with the baseline among them that has the same task and data.

    Args:
        others: Groups of runs.
        baseline: Ablation, backbone, experiment or recipe of the baselines.

    Raises:
        ConfigError: If no group has this choice, or several on the same data have it.
    """
    baselines: dict[tuple[str, ...], Other] = {}
    for other in others:
        results, key = other.group.runs[0].results, shared(other)
        if baseline in [results.get(each) for each in NAMING]:
            if key in baselines:
                raise ConfigError(
                    f"report.baseline={baseline}: several groups of runs have it: "
                    f"{described(baselines[key])}; {described(other)}. Fix: name a choice that "
                    "only one of them has, or compare fewer runs"
                )
            baselines[key] = other
    if not others:
        raise ConfigError(
            f"report.baseline={baseline}: all runs are rows of Table 2, which have a baseline of "
            "their own. Fix: leave out report.baseline"
        )
    if not baselines:
        names = dict.fromkeys(
            str(other.group.runs[0].results[each])
            for each in NAMING
            for other in others
            if other.group.runs[0].results.get(each)
        )
        raise ConfigError(
            f"report.baseline={baseline}: no run outside Table 2 has this {', '.join(NAMING[:-1])} "
            f"or {NAMING[-1]}. Fix: name one of {', '.join(names)}"
        )

    def line(other: Other) -> Other:
        first = baselines.get(shared(other))
        if first is None:
            return replace(other, verdict=NO_BASELINE)
        if first is other:
            return replace(other, verdict="baseline")
        difference, verdict = compared(other.group, first.group)
        return replace(other, difference=difference, verdict=verdict)

    return [line(other) for other in others]


def shared(other: Other) -> tuple[str, ...]:
    """Return the choices that a group shares with its baseline."""
    return tuple(str(other.group.runs[0].results.get(each)) for each in SHARED)


def described(other: Other) -> str:
    """Return the name of a group, with the values in which it differs from its neighbors."""
    return ", ".join(filter(None, (other.name, other.differs)))


def choice_of(run: Run) -> str:
    """Return the chosen configs of a run, which serve as its name."""
    results = run.results
    named = ("action", "task", "backbone", "data", "recipe", "experiment", "ablation")
    words = [f"{key}={results[key]}" for key in named if results.get(key)]
    return " ".join([*words, *(["without provenance.json"] if run.provenance is None else [])])


def all_facts(run: Run) -> Facts:
    """Return everything that is known about a run except its seed; the network is included."""
    recipe = recipe_of(run)
    facts = {**(told_of(run) if recipe is None else recipe)}
    facts["parameters"] = run.results["parameters"]
    if run.provenance is not None:
        facts.update(flatten({"backbone": run.provenance["config"].get("backbone")}))
    if run.results["action"] in EVALUATIONS:
        facts["checkpoint"] = run.results.get("checkpoint")
    return facts

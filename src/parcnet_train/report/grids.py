"""Tables of a report: as text cells that every output format shares, and as raw numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from parcnet_train.report.ablation import NOT_RUN, Group, Line, Other, Section
from parcnet_train.report.paired import Difference
from parcnet_train.report.paper.tables import Row

MIXED = "MIXED RECIPES"
WHY_MIXED = (
    f"{MIXED}: these runs differ in more than row and seed, so a difference between rows is not "
    "only due to the networks."
)
SURROUNDINGS = "Other differences, which are not part of the recipe:"
METRICS = (
    "Metrics and differences are in percent; a difference is in percentage points. Ours: mean and "
    "standard deviation of each run's best checkpoint over n seeds."
)
VERDICT = (
    "The verdict is 'higher' or 'lower' if that interval excludes zero, which happens by chance in "
    "one of twenty intervals; if all seeds have the same difference, the noise is unknown."
)
LEGEND = (
    f"{METRICS} Difference: relative to the first row of the table, over the seeds that both rows "
    f"have, with the 95 % interval of Student's paired t in brackets. {VERDICT} Our parameters are "
    "those of the trained network, with the classes of its data."
)
OTHERS_LEGEND = (
    f"Runs outside Table 2: {METRICS} Difference: relative to the baseline on the same data, over "
    "the seeds that both "
    f"have, with the 95 % interval of Student's paired t in brackets. {VERDICT}"
)
TOP1_DIGITS = 2  # Table 2 prints top-1 with two decimals, the other metrics with one


@dataclass(frozen=True)
class Grid:
    """A table of text.

    Attributes:
        title: Title above the table.
        headings: Headings of the columns.
        cells: Text of the cells, row by row.
        warning: Warning that must not be overlooked, followed by its list items.
        remarks: Paragraphs below the table, each a sentence with its list items.
        numbers: Indices of the columns that are aligned to the right.
    """

    title: str
    headings: Sequence[str]
    cells: Sequence[Sequence[str]]
    warning: Sequence[str] = ()
    remarks: Sequence[tuple[str, Sequence[str]]] = ()
    numbers: frozenset[int] = field(default_factory=frozenset)


HEADINGS = (
    "Row",
    "Kernel",
    "MF",
    "CA",
    "PE",
    "params, paper",
    "params, ours",
    "metric, paper",
    "ours",
    "n",
    "difference to row {}",
    "verdict",
)
OTHER_HEADINGS = ("runs of", "differ in", "params", "metric", "ours", "n")
BASELINE_HEADINGS = ("difference to baseline", "verdict")


def table2_grid(section: Section) -> Grid:
    """Return the rows of one task as a table."""
    first = section.lines[0].row
    name = first.metric_name.removeprefix("val/")
    headings = [each.format(first.number) for each in HEADINGS]
    headings[7] = f"{name}, paper"
    remarks: list[tuple[str, Sequence[str]]] = [(line, ()) for line in section.measured]
    if section.surroundings:
        remarks.append((SURROUNDINGS, section.surroundings))
    return Grid(
        f"Table 2, {section.task}",
        headings,
        [line_cells(line) for line in section.lines],
        (WHY_MIXED, *section.mixed) if section.mixed else (),
        remarks,
        frozenset({0, 5, 6, 7, 8, 9, 10}),
    )


def line_cells(line: Line) -> list[str]:
    """Return the cells of a row of Table 2."""
    row, group = line.row, line.group
    return [
        str(row.number),
        *(value for _, value in row.columns),
        f"{row.parameters} M",
        parameters_cell(group),
        paper_metric(row),
        metric_cell(group) if group else NOT_RUN,
        str(len(group.runs)) if group else "0",
        change_cell(line.difference),
        line.verdict if group else "",
    ]


def change_cell(difference: Difference | None) -> str:
    """Return a difference with its interval, which a single seed does not have."""
    if difference is None:
        return ""
    mean = f"{difference.mean:+.2f}"
    if difference.low is None or difference.high is None:
        return mean
    return f"{mean} [{difference.low:+.2f}, {difference.high:+.2f}]"


def parameters_cell(group: Group | None) -> str:
    """Return the parameter count, or all counts if the networks differ."""
    return " and ".join(f"{number:,}" for number in group.parameters) if group else ""


def paper_metric(row: Row) -> str:
    """Return the paper's metric with as many decimals as the paper prints."""
    return f"{row.metric:.{TOP1_DIGITS if row.metric_name == 'val/top1' else 1}f}"


def metric_cell(group: Group) -> str:
    """Return the mean and, with several seeds, the standard deviation."""
    deviation = "" if group.deviation is None else f" ± {group.deviation:.2f}"
    return f"{group.mean:.2f}{deviation}"


def others_grid(others: Sequence[Other]) -> Grid:
    """Return the runs that belong to no row of Table 2 as a table.

    The choices that all of them have are left out of the rows, and named above the table.
    """
    names = [other.name.split(" ") for other in others]
    common = [each for each in names[0] if len(names) > 1 and all(each in name for name in names)]
    cells = [
        [
            " ".join(each for each in name if each not in common),
            other.differs,
            parameters_cell(other.group),
            other.metric_name,
            metric_cell(other.group),
            str(len(other.group.runs)),
            change_cell(other.difference),
            other.verdict,
        ]
        for name, other in zip(names, others, strict=True)
    ]
    has_baseline = any(other.verdict for other in others)
    headings = (*OTHER_HEADINGS, *(BASELINE_HEADINGS if has_baseline else ()))
    title = ": ".join(filter(None, ("Other runs", " ".join(common))))
    shown = [row[: len(headings)] for row in cells]
    return Grid(title, headings, shown, numbers=frozenset({2, 4, 5, 6}))


def raw_table(sections: Sequence[Section], others: Sequence[Other]) -> str:
    """Return everything as CSV: unrounded, parameters as plain counts, metrics in percent."""
    stream = io.StringIO()
    rows = [*raw_lines(sections), *raw_others(others)]
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def raw_lines(sections: Sequence[Section]) -> Iterator[dict[str, object]]:
    """Yield the CSV lines of the rows of Table 2."""
    for section in sections:
        for line in section.lines:
            row = line.row
            yield {
                "table": f"table2_{section.task}",
                "row": row.number,
                "name": row.model,
                **{heading.lower(): value for heading, value in row.columns},
                "parameters_paper": round(row.parameters * 1e6),
                **raw_parameters(line.group),
                "metric": row.metric_name,
                "metric_paper": row.metric,
                **raw_group(line.group),
                **raw_difference(line.difference),
                "verdict": line.verdict,
                "mixed_recipes": bool(section.mixed),
                "differs": "; ".join(section.mixed),
            }


def raw_others(others: Sequence[Other]) -> Iterator[dict[str, object]]:
    """Yield the CSV lines of the other runs, under the same headings."""
    for other in others:
        yield {
            "table": "other",
            "name": other.name,
            **raw_parameters(other.group),
            "metric": other.metric_name,
            **raw_group(other.group),
            **raw_difference(other.difference),
            "verdict": other.verdict,
            "differs": other.differs,
        }


def raw_parameters(group: Group | None) -> dict[str, object]:
    """Return the parameter count of a group, or all counts if its networks differ."""
    return {"parameters": " ".join(map(str, group.parameters)) if group else ""}


def raw_difference(difference: Difference | None) -> dict[str, object]:
    """Return a difference to the baseline with its interval; empty without one."""
    return {
        "difference": difference and difference.mean,
        "difference_low": difference and difference.low,
        "difference_high": difference and difference.high,
        "shared_seeds": " ".join(map(str, difference.seeds)) if difference else "",
    }


def raw_group(group: Group | None) -> dict[str, object]:
    """Return the metric of a group over its seeds."""
    return {
        "metric_mean": group and group.mean,
        "metric_std": group and group.deviation,
        "n": len(group.runs) if group else 0,
        "seeds": " ".join(str(run.seed) for run in group.runs) if group else "",
    }

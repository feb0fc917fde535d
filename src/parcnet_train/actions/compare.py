"""`action=compare`: runs beside each other and beside Table 2 of the paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from parcnet_train.actions.results import Results, about
from parcnet_train.build import Config
from parcnet_train.config.action_sections import Report
from parcnet_train.config.sections import Paths
from parcnet_train.config.typed import section
from parcnet_train.files import write_whole
from parcnet_train.pages.compare import page_of
from parcnet_train.report.ablation import Section, compare_table2, other_runs, with_baseline
from parcnet_train.report.collected import collect, folders_of
from parcnet_train.report.documents import markdown, print_grids
from parcnet_train.report.figures import figures_of
from parcnet_train.report.grids import LEGEND, OTHERS_LEGEND, others_grid, raw_table, table2_grid
from parcnet_train.runs.directories import write_results

WIDTH = 150  # characters that the widest table needs


def compare(config: Config) -> Results:
    """Compare all finished runs below a folder, and write tables, figures and `results.json`.

    Args:
        config: The whole configuration as plain values; its data and its network are not looked at.

    Returns:
        What `results.json` holds.

    Raises:
        ConfigError: If there is no finished run below `report.runs`, or `report.baseline` names no
            group of them, or several on the same data.
    """
    output = Path(section(Paths, config).output)
    settings = section(Report, config)
    folders = folders_of(settings.runs)
    collected = collect(folders)
    sections, superseded = compare_table2(collected.runs)
    begun = [part for part in sections if any(line.group for line in part.lines)]
    if not begun:
        sections = []  # these runs are about something else
    others, repeated = other_runs(collected.runs)
    superseded += repeated
    if settings.baseline is not None:
        others = with_baseline(others, settings.baseline)
    notes: list[tuple[str, Sequence[str]]] = [(LEGEND, ())] if sections else []
    if settings.baseline is not None:
        notes.append((OTHERS_LEGEND, ()))
    if superseded:
        notes.append(("Several runs of the same row and seed:", superseded))
    stopped = ((run.name, run.results.get("stopped")) for run in collected.runs)
    if early := [f"{name}: {reason}" for name, reason in stopped if reason is not None]:
        notes.append(("Ended before their last epoch:", early))
    if collected.left_out:
        notes.append(("Left out:", collected.left_out))
    own = [others_grid(others)] if others else []
    table2 = [*map(table2_grid, sections)]
    grids = [*table2, *own]
    # The page has its own table of all runs, but without differences.
    on_page = table2 if settings.baseline is None else grids
    figures = figures_of(sections, others)
    paper = ", and Table 2 of the ParC-Net paper" if sections else ""
    count = len(collected.runs)
    title = f"{count} run{'s' if count != 1 else ''}{paper}"
    tables = {
        "table.md": markdown(title, grids, notes, figures).encode(),
        "table.csv": raw_table(sections, others).encode(),
        "compare.html": page_of(title, sections, others, on_page, notes, figures, folders),
    }
    files = {**tables, **figures}
    for name, content in files.items():
        write_whole(output / name, content)
    print_grids(
        [*map(table2_grid, begun), *own],
        [*notes, ("Written:", [str(output / name) for name in files])],
        WIDTH,
    )
    results = {
        **about(config),
        "report_runs": [str(folder) for folder in folders],
        "runs": len(collected.runs),
        "rows": [line.row.number for part in sections for line in part.lines if line.group],
        "others": len(others),
        "left_out": collected.left_out,
        "superseded": superseded,
        "mixed": [part.task for part in sections if part.mixed],
        **{name.replace(".", "_"): str(output / name) for name in tables},
        "figures": [str(output / name) for name in figures],
        **dict(numbers(sections)),
    }
    write_results(output, results)
    return results


def numbers(sections: Sequence[Section]) -> Iterator[tuple[str, object]]:
    """Return the metrics, in percent, of every row that has runs."""
    for line in (line for part in sections for line in part.lines):
        if line.group is None:
            continue
        values = {
            "mean": line.group.mean,
            "std": line.group.deviation,
            "n": len(line.group.runs),
            "verdict": line.verdict,
        }
        if line.difference:
            values["difference"] = line.difference.mean
            values["difference_low"] = line.difference.low
            values["difference_high"] = line.difference.high
        for name, value in values.items():
            yield f"table2/row{line.row.number}/{name}", value

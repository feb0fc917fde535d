"""`action=report`: the pages of finished runs, made again from what their directories contain."""

from __future__ import annotations

import logging
from pathlib import Path

from parcnet_train.actions.results import Results, about
from parcnet_train.build import Config
from parcnet_train.config.action_sections import Report
from parcnet_train.config.sections import Paths
from parcnet_train.config.typed import section
from parcnet_train.errors import first_line
from parcnet_train.pages.run import write_page
from parcnet_train.report.collected import collect, folders_of
from parcnet_train.runs.directories import PAGE, write_results

log = logging.getLogger(__name__)


def report(config: Config) -> Results:
    """Write `report.html` into the directory of every finished run below a folder.

    Args:
        config: The whole configuration as plain values; its data and its network are not looked at.

    Returns:
        What `results.json` holds.

    Raises:
        ConfigError: If there is no finished run below `report.runs`.
    """
    folders = folders_of(section(Report, config).runs)
    collected = collect(folders)
    left_out, pages = list(collected.left_out), []
    for run in collected.runs:
        try:
            write_page(run.folder)
        except Exception as error:  # a damaged run does not stop the pages of the others
            left_out.append(f"{run.name}: {first_line(error)}")
            continue
        pages.append(str(run.folder / PAGE))
    for line in left_out:
        log.warning("left out: %s", line)
    for page in pages:
        print(page)
    results = {
        **about(config),
        "report_runs": [str(folder) for folder in folders],
        "pages": pages,
        "left_out": left_out,
    }
    write_results(Path(section(Paths, config).output), results)
    return results

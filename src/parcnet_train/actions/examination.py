"""`action=check check.data=full`: every file of the data is read, and a report is written."""

from __future__ import annotations

import inspect
from pathlib import Path

from parcnet_train.actions.results import Results, about
from parcnet_train.build import Config, build_data
from parcnet_train.config.sections import Check, Paths
from parcnet_train.config.typed import section
from parcnet_train.data.file_checks import refuse
from parcnet_train.doctor.anchors import Anchors
from parcnet_train.doctor.examine import Order, examine
from parcnet_train.doctor.page import lines_of, page_of, values_of
from parcnet_train.files import to_json, write_whole
from parcnet_train.models.heads.ssdlite import SSDLite
from parcnet_train.runs.directories import write_results
from parcnet_train.targets import locate
from parcnet_train.version import __version__

PAGE, VALUES = "report.html", "report.json"


def check_data(config: Config) -> Results:
    """Examine the data of a checked configuration, and write `report.html` and `report.json`.

    Args:
        config: The whole configuration as plain values, with `choices`.

    Returns:
        What `results.json` holds: the numbers of errors, warnings and notes, and the files.

    Raises:
        DataError: If a training would refuse the data; the report is written before.
    """
    settings, paths = section(Check, config), section(Paths, config)
    output = Path(paths.output)
    data = build_data(config)
    order = Order(
        settings.data == "full",
        config["choices"]["data"],
        anchors_of(config, data.image_size),
        Path(paths.cache).expanduser(),
    )
    done = examine(data, order)
    choices = config["choices"]
    facts = [
        ("Data", f"data={choices['data']} data.root={data.root}"),
        ("Task", f"{choices['task']}, input of {data.image_size[1]}x{data.image_size[0]} pixels"),
        ("Version", f"parcnet-train {__version__}"),
    ]
    write_whole(output / PAGE, page_of(done, choices["task"], facts))
    values = values_of(done)
    write_whole(output / VALUES, to_json({**about(config), **values}, indent=2))
    results = {
        **about(config),
        **{name: value for name, value in values.items() if name != "findings"},
        "report_html": str(output / PAGE),
        "report_json": str(output / VALUES),
    }
    write_results(output, results)
    for line in lines_of(done, output / PAGE):
        print(line)
    refuse([line for finding in done.findings for line in finding.lines])
    return results


def anchors_of(config: Config, size: tuple[int, int]) -> Anchors | None:
    """Return the settings of the anchors of a configuration; None for another head than ours."""
    head = locate(config["head"])
    if not (inspect.isclass(head) and issubclass(head, SSDLite)):
        return None
    default = inspect.signature(SSDLite).parameters["smallest_anchor"].default
    return Anchors(size, config["head"].get("smallest_anchor", default))

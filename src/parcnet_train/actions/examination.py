"""`action=check check.data=full`: every file of the data is read, and a report is written."""

from __future__ import annotations

import functools
import time
from pathlib import Path

from parcnet_train.actions.predict import as_evaluated
from parcnet_train.actions.results import Results, about
from parcnet_train.benchmarks.timing import device_of
from parcnet_train.build import Config, build_data, named_classes, precision_of
from parcnet_train.checkpoints.checkpoints import check_same_classes
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.config.action_sections import Check, Predict
from parcnet_train.config.sections import Paths
from parcnet_train.config.typed import section
from parcnet_train.data.base import TaskData
from parcnet_train.data.file_checks import refuse
from parcnet_train.doctor.anchors import anchors_of
from parcnet_train.doctor.examine import Order, examine
from parcnet_train.doctor.findings import worst_first
from parcnet_train.doctor.labels import import_cleanlab, label_findings
from parcnet_train.doctor.networks import Network
from parcnet_train.doctor.page import lines_of, page_of, values_of
from parcnet_train.doctor.sets import sets_of
from parcnet_train.errors import CheckpointError
from parcnet_train.files import to_json, write_whole
from parcnet_train.predict.predictor import Predictor
from parcnet_train.restore import restore
from parcnet_train.runs.directories import PAGE, checkpoint_in, write_results
from parcnet_train.version import __version__

VALUES = "report.json"


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
        anchors_of(config["head"], data.image_size),
        Path(paths.cache).expanduser(),
    )
    network = None if settings.predictions is None else network_of(config, settings, data)
    done = examine(data, order)
    if network is not None:
        started = time.monotonic()
        names = list(data.class_names)
        for images in sets_of(data)[0]:
            done.findings += label_findings(network, images, names)
        done.findings = worst_first(done.findings)
        done.seconds += time.monotonic() - started
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


def network_of(config: Config, settings: Check, data: TaskData) -> Network:
    """Load the network that searches for label errors.

    Raises:
        CheckpointError: If its checkpoint cannot be read, or has other classes than the data.
        ConfigError: If `cleanlab` is not installed.
    """
    import_cleanlab("filter")
    path = checkpoint_in(str(settings.predictions))
    checkpoint = read_checkpoint(path, "check.predictions")
    packages = [target.split(".")[0] for target in named_classes(config)]
    model = restore(checkpoint, path, packages=["parcnet_train", *packages])
    if not isinstance(model.predictor, Predictor):
        raise CheckpointError(
            f"check.predictions={path}: its task is {checkpoint['choices']['task']}; expected "
            "classification, detection or segmentation"
        )
    check_same_classes(checkpoint, data.class_names, path)
    device = device_of(config["trainer"]["accelerator"])
    context = functools.partial(as_evaluated, precision_of(config), device)
    batch_size = section(Predict, config).batch_size
    return Network(model.to(device), batch_size, context, str(settings.predictions))

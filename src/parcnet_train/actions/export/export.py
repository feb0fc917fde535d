"""`action=export`: a checkpoint as a file of another runtime, compared with PyTorch."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parcnet_train.actions.export.int8 import quantize
from parcnet_train.actions.export.verify import verify
from parcnet_train.actions.fit import prepare, read_model
from parcnet_train.actions.results import Results, about
from parcnet_train.build import Config, build_model, height_and_width
from parcnet_train.checkpoints.checkpoints import check_same_model, model_state
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.deploy.exportable import Decoding, Exportable
from parcnet_train.deploy.formats.formats import FORMATS, Format, verification_of
from parcnet_train.files import bytes_of, remove, scratch_folder
from parcnet_train.models.model import Model
from parcnet_train.models.profiling.counts import count_parameters
from parcnet_train.report.console.operators import print_operators
from parcnet_train.runs.actions import reads_data
from parcnet_train.runs.directories import checkpoint_of, write_results
from parcnet_train.tasks.base import Task

log = logging.getLogger(__name__)


def export(config: Config) -> Results:
    """Write the checkpoint `ckpt=` as a file, verify it, and write `results.json`.

    Args:
        config: The whole configuration as plain values, with `choices`: the chosen configs.

    Returns:
        What `results.json` holds.

    Raises:
        ExportError: If the file's output does not match PyTorch; the file is then removed.
    """
    started = time.perf_counter()
    config = on_cpu(config)
    settings, form = config["export"], FORMATS[config["export"]["format"]]
    size = height_and_width(config["recipe"]["image_size"])
    model, class_names, evaluation = read(config)
    decoding = decoding_of(config["task"]) if settings["decode"] else None
    network = Exportable(model, size, settings["argmax"], decoding)
    settings["dynamic_batch"] &= form.batches and decoding is None
    path = file_of(config, size, form.suffixes[0])
    about_int8 = write(config, form, network, path, class_names, evaluation)
    counts, size_on_disk = form.count(path), sum(map(bytes_of, form.parts(path)))
    print_operators(f"{path.name}: {size_on_disk / 2**20:.1f} MiB", counts)
    results = {
        **about(config),
        **config["choices"],
        "parameters": count_parameters(model),
        "checkpoint": str(checkpoint_of(config)),
        "export/file": str(path),
        "export/format": settings["format"],
        "export/bytes": size_on_disk,
        "export/size": list(size),
        "export/dynamic_batch": settings["dynamic_batch"],
        "export/precision": settings["precision"],
        **about_int8,
        "export/verify": settings["verify"],
        **{f"export/operators/{name}": count for name, count in counts.items()},
    }
    if evaluation is not None and settings["verify"] != "none":
        try:
            results |= verify(config, network, form.open(path, threads=1), form, *evaluation)
        except BaseException:  # a file that was not compared to the end is not there either
            for part in form.parts(path):
                remove(part)
            raise
    log.info("wrote %s", path)
    results["seconds"] = time.perf_counter() - started
    write_results(Path(config["paths"]["output"]), results)
    return results


def write(
    config: Config,
    form: Format,
    network: Exportable,
    path: Path,
    class_names: Sequence[str],
    evaluation: tuple[Any, Task] | None,
) -> Results:
    """Write the file; an int8 file is made from one in float32.

    Returns:
        How int8 was made of it.
    """
    settings, description = config["export"], network.description(class_names)
    if settings["precision"] == "float32":
        form.write(network, path, description, settings["dynamic_batch"])
        return {}
    assert evaluation is not None  # of int8, always
    data, task = evaluation
    with scratch_folder() as folder:
        source = folder / path.name
        form.write(network, source, description, settings["dynamic_batch"])
        return quantize(config, form, source, path, data, task.model)


def on_cpu(config: Config) -> Config:
    """Return the configuration for one process on the CPU and images of the exported size."""
    config = copy.deepcopy(config)
    size = config["export"]["size"]
    if size is not None:
        config["recipe"]["image_size"] = size
        if "image_size" in config["data"]:
            config["data"]["image_size"] = size
    config["export"]["verify"] = verification_of(config["export"])
    config["trainer"].update(accelerator="cpu", devices=1, strategy="auto", precision="32-true")
    config["trainer"].pop("num_nodes", None)
    config.update(compile=False, channels_last=False)
    # One run of each image, and nothing drawn.
    alone = {"pictures": 0, "scales": [1.0], "mirror": False, "save_predictions": False}
    config["task"].update({k: v for k, v in alone.items() if k in config["task"]})
    return config


def read(config: Config) -> tuple[Model, list[str], tuple[Any, Task] | None]:
    """Return the network of the checkpoint and its classes, and data and task if needed."""
    if reads_data(config):
        data, task = prepare(config)
        checkpoint = read_model(checkpoint_of(config), task, data, config)
        model = task.model
        evaluation = (data, task)
    else:
        checkpoint = read_checkpoint(checkpoint_of(config))
        model, evaluation = build_model(config, len(checkpoint["class_names"])), None
        check_same_model(checkpoint, model, config, checkpoint_of(config))
    model.load_state_dict(model_state(checkpoint))
    return model.eval(), checkpoint["class_names"], evaluation


def decoding_of(task: Mapping[str, Any]) -> Decoding:
    """Return how the task decodes a detector's outputs."""
    return Decoding(
        task["score_threshold"], task["nms_iou"], task["candidates"], task["detections_per_image"]
    )


def file_of(config: Config, size: tuple[int, int], suffix: str) -> Path:
    """Return the path of the file, whose name states its network and size."""
    choices, (height, width) = config["choices"], size
    ending = "-int8" if config["export"]["precision"] == "int8" else ""
    name = f"{choices['backbone']}-{choices['task']}-{height}x{width}{ending}{suffix}"
    return Path(config["paths"]["output"]) / name

"""`action=export`: a checkpoint as a file of another runtime, compared with torch."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from parcnet_train.actions.results import Results, about
from parcnet_train.actions.training import prepare, read_model, refusals
from parcnet_train.build import Config, build_model, build_trainer, height_and_width
from parcnet_train.checkpoints import check_same_model, model_state, read_checkpoint
from parcnet_train.deploy.exportable import Decoding, Exportable
from parcnet_train.deploy.formats import FORMATS, File, Format
from parcnet_train.deploy.verify import Comparing, FileModel
from parcnet_train.errors import ExportError
from parcnet_train.files import bytes_of, remove
from parcnet_train.model import Model
from parcnet_train.profiling import count_parameters
from parcnet_train.report.operators import print_operators
from parcnet_train.runs import checkpoint_of, write_results
from parcnet_train.tasks.base import Task

log = logging.getLogger(__name__)

COMPARED = 64  # images of export.verify=outputs
METRIC_TOLERANCE = 1e-3  # a tenth of a point


def export(config: Config) -> Results:
    """Writes the checkpoint `ckpt=` as a file, compares it with torch, and leaves `results.json`.

    Args:
        config: the whole configuration as plain values, with `choices`: the chosen configs.

    Returns:
        What `results.json` holds.

    Raises:
        ExportError: where the file gives something else than torch; it is removed then.
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
    form.write(network, path, network.description(class_names), settings["dynamic_batch"])
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
        "export/verify": settings["verify"],
        **{f"export/operators/{name}": count for name, count in counts.items()},
    }
    if evaluation is not None:
        try:
            results |= verify(config, network, form.open(path, threads=1), form, *evaluation)
        except ExportError:
            for part in form.parts(path):
                remove(part)
            raise
    log.info("wrote %s", path)
    results["seconds"] = time.perf_counter() - started
    write_results(Path(config["paths"]["output"]), results)
    return results


def on_cpu(config: Config) -> Config:
    """The configuration of one process on the CPU, for images of the exported size."""
    config = copy.deepcopy(config)
    size = config["export"]["size"]
    if size is not None:
        config["recipe"]["image_size"] = size
        if "image_size" in config["data"]:
            config["data"]["image_size"] = size
    config["trainer"].update(accelerator="cpu", devices=1, strategy="auto", precision="32-true")
    config["trainer"].pop("num_nodes", None)
    config.update(compile=False, channels_last=False)
    # One run of each image, and nothing drawn.
    alone = {"pictures": 0, "scales": [1.0], "mirror": False, "save_predictions": False}
    config["task"].update({k: v for k, v in alone.items() if k in config["task"]})
    return config


def read(config: Config) -> tuple[Model, list[str], tuple[Any, Task] | None]:
    """The network of the checkpoint, its classes, and data and task where it is evaluated."""
    if config["export"]["verify"] != "none":
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
    """How the task makes objects of a detector's outputs."""
    return Decoding(
        task["score_threshold"], task["nms_iou"], task["candidates"], task["detections_per_image"]
    )


def file_of(config: Config, size: tuple[int, int], suffix: str) -> Path:
    """Where the file is written: its name tells what it holds."""
    choices, (height, width) = config["choices"], size
    name = f"{choices['backbone']}-{choices['task']}-{height}x{width}{suffix}"
    return Path(config["paths"]["output"]) / name


def verify(
    config: Config, network: Exportable, file: File, form: Format, data: Any, task: Task
) -> Results:
    """Compares a file with torch on images of the validation set.

    Args:
        config: of the run.
        network: that was written.
        file: to be compared.
        form: its format.
        data: that is evaluated.
        task: of the network.

    Returns:
        The differences, and the metric of both where that is wanted.

    Raises:
        ExportError: where the file is over a tolerance.
    """
    is_whole = config["export"]["verify"] == "metric"
    takes_batches = config["export"]["dynamic_batch"]
    comparing = Comparing(task.model, network, file, takes_batches)
    before = evaluate(config, comparing, data, task, None if is_whole else COMPARED)
    results = comparing.results()
    faults = comparing.faults(form.tolerance)
    if is_whole:
        anchors = getattr(network.network.head, "anchors", None)
        after = evaluate(config, FileModel(file, anchors, takes_batches), data, task, None)
        change = abs(after[task.monitor] - before[task.monitor])
        for name in before:
            results[f"export/before/{name}"] = before[name]
            results[f"export/after/{name}"] = after[name]
        if change > METRIC_TOLERANCE:
            faults.append(
                f"{task.monitor} is {after[task.monitor]:.4f}, that of torch "
                f"{before[task.monitor]:.4f}; allowed is a difference of {METRIC_TOLERANCE:g}"
            )
    if faults:
        raise ExportError(
            f"export.format={config['export']['format']}: the file gives something else than "
            f"torch, and was removed: {'; '.join(faults)}. Try another format, or look at it with "
            "export.verify=none"
        )
    tell(comparing)
    return results


def tell(comparing: Comparing) -> None:
    """Logs how far the file is from torch."""
    for name, each in comparing.differences.items():
        log.info(
            "%s of %d images: differs from torch by %.2g at most, %.2g on average; its standard "
            "deviation is %.2g",
            *(name, comparing.images, each.maximum, each.mean, each.spread),
        )
    for name, of_name in comparing.others.items():
        log.info("%s: %.3f %% are not those of torch", name, 100 * of_name.share)


def evaluate(
    config: Config, model: nn.Module, data: Any, task: Task, images: int | None
) -> Mapping[str, float]:
    """The metrics of what stands in the place of the task's model, on so many images or on all."""
    trainer = dict(config["trainer"])
    if images is not None:
        trainer["limit_val_batches"] = max(1, images // data.batch_size)
    trained: Any = task.model
    task.model = model  # type: ignore[assignment]
    try:
        with refusals():
            runner = build_trainer({**config, "trainer": trainer})
            (metrics,) = runner.validate(task, data, verbose=False)
    finally:
        task.model = trained
    return metrics

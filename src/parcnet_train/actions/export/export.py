"""`action=export`: a checkpoint as a file of another runtime, compared with PyTorch."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from parcnet_train.actions.export.int8 import quantize, ranges_from
from parcnet_train.actions.export.verify import verify, verify_on_generated
from parcnet_train.actions.fit import prepare
from parcnet_train.actions.results import Results, about
from parcnet_train.actions.starting import read_model
from parcnet_train.build import Config, build_data, build_model, height_and_width, network_spec
from parcnet_train.checkpoints.checkpoints import check_same_model, model_state
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.config.action_sections import Export
from parcnet_train.config.sections import Paths, Recipe
from parcnet_train.config.typed import reads_data, run_spec, section
from parcnet_train.deploy.exportable import (
    PRECISION,
    Decoding,
    Exportable,
    FileOptions,
    Images,
    as_text,
)
from parcnet_train.deploy.formats.formats import FORMATS, Format, data_is_optional, verification_of
from parcnet_train.deploy.standalone.write import can_be_answered, write_script
from parcnet_train.errors import ConfigError, DataError, first_line
from parcnet_train.files import bytes_of, remove
from parcnet_train.models.model import Model
from parcnet_train.models.profiling.counts import count_parameters
from parcnet_train.predict.tasks import predictor_of
from parcnet_train.report.console.operators import print_operators
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
    may_lack_data = data_is_optional(config["export"])
    config = on_cpu(config)
    settings, output = section(Export, config), Path(section(Paths, config).output)
    form, size = FORMATS[settings.format], height_and_width(section(Recipe, config).image_size)
    model, class_names, evaluation = read(config, may_lack_data)
    decoding = decoding_of(config["task"]) if settings.decode else None
    network = Exportable(model, size, settings.argmax, decoding, settings.preprocess)
    choices = config["choices"]
    predictor = predictor_of(choices["task"], class_names, size, config["task"], config["data"])
    assert predictor is not None  # `check` refuses other tasks
    about_file = network.about(class_names, predictor.about())
    about_file |= {PRECISION: settings.precision, "task": choices["task"]}
    if form.from_onnx:
        about_file["opset"] = settings.opset
    variant = "" if settings.precision == "float32" else settings.precision
    stem = network.file_name(choices["backbone"], variant)
    path = output / f"{stem}{form.suffixes[0]}"
    calibrate: Callable[[], Images] | None = None
    if settings.precision == "int8":
        data, may_skip = evaluation and evaluation[0], config["data"].get("on_error") == "skip"
        calibrate = partial(ranges_from, settings, model, predictor, data, may_skip)
    results = {
        **about(config),
        **choices,
        "parameters": count_parameters(model),
        "checkpoint": str(checkpoint_of(run_spec(config))),
        **write(settings, form, network, path, as_text(about_file), calibrate),
        **compare(config, model, network, path, evaluation),
    }
    log.info("wrote %s", path)
    if form.has_script and can_be_answered(about_file):
        script = write_script(path, stem, about_file)
        results["export/script"] = str(script)
        log.info("wrote %s, which runs the file without this package", script)
    results["seconds"] = time.perf_counter() - started
    write_results(output, results)
    return results


def write(
    settings: Export,
    form: Format,
    network: Exportable,
    path: Path,
    description: dict[str, str],
    calibrate: Callable[[], Images] | None,
) -> Results:
    """Write the file, and print its operators; an int8 file is made from one in float32.

    Args:
        settings: Section of the action.
        form: Format of the file.
        network: Network to write.
        path: File to write.
        description: Metadata of the file.
        calibrate: Function that returns the calibration images of int8.

    Returns:
        What the file is, and how it was made.
    """
    is_half = settings.precision == "float16"
    options = FileOptions(settings.dynamic_batch, settings.opset, is_half)
    about_int8: Results = {}
    if calibrate is None:
        form.write(network, path, description, options)
    else:
        with form.in_float32(network, description, options) as source:
            about_int8 = quantize(settings, form, source, path, calibrate())
    counts, size_on_disk = form.count(path), sum(map(bytes_of, form.parts(path)))
    print_operators(f"{path.name}: {size_on_disk / 2**20:.1f} MiB", counts)
    return {
        "export/file": str(path),
        "export/format": settings.format,
        "export/bytes": size_on_disk,
        "export/size": list(network.size),
        "export/dynamic_batch": settings.dynamic_batch,
        "export/opset": settings.opset,
        "export/preprocess": settings.preprocess,
        "export/precision": settings.precision,
        **about_int8,
        **{f"export/operators/{name}": count for name, count in counts.items()},
    }


def compare(
    config: Config,
    model: Model,
    network: Exportable,
    path: Path,
    evaluation: tuple[Any, Task] | None,
) -> Results:
    """Compare a file with PyTorch as the configuration says; a wrong file is removed.

    Args:
        config: Whole configuration.
        model: Network as it was trained.
        network: Network that was written.
        path: File to compare.
        evaluation: Data and task; None if there are no data.

    Returns:
        The differences.

    Raises:
        ExportError: If the file does not match.
    """
    settings = section(Export, config)
    form, results = FORMATS[settings.format], {"export/verify": settings.verify}
    if settings.verify == "none":
        return results
    try:
        file = form.open(path, threads=1)
        if evaluation is None:
            results["export/verify"] = "outputs"
            return results | verify_on_generated(settings, model, network, file, form)
        return results | verify(config, network, file, form, *evaluation)
    except BaseException:  # a file that was not compared to the end is not there either
        for part in form.parts(path):
            remove(part)
        raise


def on_cpu(config: Config) -> Config:
    """Return a configuration for one process on the CPU and images of the exported size.

    Its section `export` says how the file is verified, and whether its batch can be dynamic.

    Args:
        config: Whole configuration, of which a changed copy is returned.
    """
    config = copy.deepcopy(config)
    settings = section(Export, config)
    size = settings.size
    if size is not None:
        config["recipe"]["image_size"] = size
        if "image_size" in config["data"]:
            config["data"]["image_size"] = size
    has_logits = not settings.argmax and not settings.decode
    config["export"].update(
        verify=verification_of(settings.verify, settings.precision, has_logits),
        dynamic_batch=settings.dynamic_batch
        and FORMATS[settings.format].batches
        and not settings.decode,
    )
    config["trainer"].update(accelerator="cpu", devices=1, strategy="auto", precision="32-true")
    config["trainer"].pop("num_nodes", None)
    config.update(compile=False, channels_last=False)
    # One run of each image, and nothing drawn.
    alone = {"pictures": 0, "scales": [1.0], "mirror": False, "save_predictions": False}
    config["task"].update({k: v for k, v in alone.items() if k in config["task"]})
    return config


def read(config: Config, may_lack_data: bool) -> tuple[Model, list[str], tuple[Any, Task] | None]:
    """Return the network of the checkpoint and its classes, and data and task if there are any."""
    path, spec = checkpoint_of(run_spec(config)), network_spec(config)
    evaluation = read_data(config, may_lack_data) if reads_data(config) else None
    if evaluation is not None:
        data, task = evaluation
        checkpoint = read_model(path, task, data, spec)
        model = task.model
    else:
        checkpoint = read_checkpoint(path)
        model = build_model(config, len(checkpoint["class_names"]))
        check_same_model(checkpoint, model, spec, path)
    model.load_state_dict(model_state(checkpoint))
    return model.eval(), checkpoint["class_names"], evaluation


def read_data(config: Config, may_lack: bool) -> tuple[Any, Task] | None:
    """Return data and task; None if the data cannot be read and the export can do without."""
    if not may_lack:  # the check of the configuration has read them
        return prepare(config)
    try:
        build_data(config).check_files(config["action"])
    except (ConfigError, DataError) as error:
        log.warning(
            "the data cannot be read, so the file is compared with PyTorch on generated images, "
            "without the metric (export.verify=none: not at all): %s",
            first_line(error),
        )
        return None
    return prepare(config)


def decoding_of(task: Mapping[str, Any]) -> Decoding:
    """Return how the task decodes a detector's outputs."""
    return Decoding(
        task["score_threshold"], task["nms_iou"], task["candidates"], task["detections_per_image"]
    )

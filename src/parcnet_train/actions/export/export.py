"""`action=export`: a checkpoint as a file of another runtime, compared with PyTorch."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from parcnet_train.actions.export.int8 import quantize, training_images
from parcnet_train.actions.export.verify import verify
from parcnet_train.actions.fit import prepare
from parcnet_train.actions.results import Results, about
from parcnet_train.actions.starting import read_model
from parcnet_train.build import Config, build_model, height_and_width, network_spec
from parcnet_train.checkpoints.checkpoints import check_same_model, model_state
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.config.action_sections import Export
from parcnet_train.config.sections import Paths, Recipe
from parcnet_train.config.typed import reads_data, run_spec, section
from parcnet_train.deploy.exportable import Decoding, Exportable, Images
from parcnet_train.deploy.formats.formats import FORMATS, Format, verification_of
from parcnet_train.files import bytes_of, remove, scratch_folder
from parcnet_train.models.model import Model
from parcnet_train.models.profiling.counts import count_parameters
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
    config = on_cpu(config)
    settings, output = section(Export, config), Path(section(Paths, config).output)
    form, size = FORMATS[settings.format], height_and_width(section(Recipe, config).image_size)
    model, class_names, evaluation = read(config)
    decoding = decoding_of(config["task"]) if settings.decode else None
    network = Exportable(model, size, settings.argmax, decoding)
    choices = config["choices"]
    calibrate: Callable[[], Images] | None = None
    if evaluation is not None:
        names = (choices["task"], config["task"], config["data"])
        count = settings.calibration_images
        calibrate = partial(training_images, evaluation[0], model, count, *names)
    stem = stem_of(choices["backbone"], choices["task"], size, settings.precision)
    path = output / f"{stem}{form.suffixes[0]}"
    about_int8 = write(settings, form, network, path, class_names, calibrate)
    counts, size_on_disk = form.count(path), sum(map(bytes_of, form.parts(path)))
    print_operators(f"{path.name}: {size_on_disk / 2**20:.1f} MiB", counts)
    results = {
        **about(config),
        **choices,
        "parameters": count_parameters(model),
        "checkpoint": str(checkpoint_of(run_spec(config))),
        "export/file": str(path),
        "export/format": settings.format,
        "export/bytes": size_on_disk,
        "export/size": list(size),
        "export/dynamic_batch": settings.dynamic_batch,
        "export/precision": settings.precision,
        **about_int8,
        "export/verify": settings.verify,
        **{f"export/operators/{name}": count for name, count in counts.items()},
    }
    if evaluation is not None and settings.verify != "none":
        try:
            results |= verify(config, network, form.open(path, threads=1), form, *evaluation)
        except BaseException:  # a file that was not compared to the end is not there either
            for part in form.parts(path):
                remove(part)
            raise
    log.info("wrote %s", path)
    results["seconds"] = time.perf_counter() - started
    write_results(output, results)
    return results


def write(
    settings: Export,
    form: Format,
    network: Exportable,
    path: Path,
    class_names: Sequence[str],
    calibrate: Callable[[], Images] | None,
) -> Results:
    """Write the file; an int8 file is made from one in float32.

    Args:
        settings: Section of the action.
        form: Format of the file.
        network: Network to write.
        path: File to write.
        class_names: Names of the network's classes.
        calibrate: Function that returns the calibration images; None if the run reads no data.

    Returns:
        How int8 was made of it.
    """
    description = network.description(class_names)
    if settings.precision == "float32":
        form.write(network, path, description, settings.dynamic_batch)
        return {}
    assert calibrate is not None  # int8 always reads data
    with scratch_folder() as folder:
        source = folder / path.name
        form.write(network, source, description, settings.dynamic_batch)
        return quantize(settings, form, source, path, calibrate())


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


def read(config: Config) -> tuple[Model, list[str], tuple[Any, Task] | None]:
    """Return the network of the checkpoint and its classes, and data and task if needed."""
    path, spec = checkpoint_of(run_spec(config)), network_spec(config)
    if reads_data(config):
        data, task = prepare(config)
        checkpoint = read_model(path, task, data, spec)
        model = task.model
        evaluation = (data, task)
    else:
        checkpoint = read_checkpoint(path)
        model, evaluation = build_model(config, len(checkpoint["class_names"])), None
        check_same_model(checkpoint, model, spec, path)
    model.load_state_dict(model_state(checkpoint))
    return model.eval(), checkpoint["class_names"], evaluation


def decoding_of(task: Mapping[str, Any]) -> Decoding:
    """Return how the task decodes a detector's outputs."""
    return Decoding(
        task["score_threshold"], task["nms_iou"], task["candidates"], task["detections_per_image"]
    )


def stem_of(backbone: str, task: str, size: tuple[int, int], precision: str) -> str:
    """Return the name of the file without its suffix; it states the network and the size."""
    height, width = size
    ending = "-int8" if precision == "int8" else ""
    return f"{backbone}-{task}-{height}x{width}{ending}"

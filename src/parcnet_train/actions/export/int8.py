"""Int8 export: calibration images, the file, and the most sensitive layers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parcnet_train.actions.results import Results
from parcnet_train.config.action_sections import Export
from parcnet_train.deploy.calibration import calibration_images
from parcnet_train.deploy.exportable import Images
from parcnet_train.deploy.formats.formats import Format
from parcnet_train.files import scratch_folder
from parcnet_train.models.model import Model
from parcnet_train.predict.tasks import predictor_of
from parcnet_train.report.console.sensitivities import print_sensitivities
from parcnet_train.terminal import progress

log = logging.getLogger(__name__)

LISTENED = 16  # images on which a layer's share of the noise is measured


def training_images(
    data: Any,
    model: Model,
    count: int,
    task: str,
    task_arguments: Mapping[str, Any],
    data_arguments: Mapping[str, Any],
) -> Images:
    """Return the images that int8 takes its ranges from; see `calibration_images`.

    Args:
        data: Data module whose training images are read.
        model: Network in float32, in evaluation mode.
        count: Number of images.
        task: Name of the chosen task.
        task_arguments: Arguments of the task; see `predictor_of`.
        data_arguments: Arguments of the data module.

    Raises:
        DataError: If an image cannot be read.
    """
    names, size = data.class_names, data.image_size
    predictor = predictor_of(task, names, size, task_arguments, data_arguments)
    assert predictor is not None  # of all tasks that there are
    may_skip = data_arguments.get("on_error") == "skip"
    return calibration_images(data.make_train_set(), predictor, model, count, may_skip)


def quantize(settings: Export, form: Format, source: Path, path: Path, images: Images) -> Results:
    """Write a file in int8.

    Args:
        settings: Section of the action.
        form: Format of both files.
        source: File in float32.
        path: File to write in int8.
        images: Training images that give the ranges of values.

    Returns:
        How it was made, and the ratio of signal to noise of every layer where that is wanted.

    Raises:
        ConfigError: If a package is not installed, or there is no layer of a name.
        TrainingError: If the file cannot be made or written.
    """
    assert form.quantizable is not None  # `check` looks after that
    with scratch_folder() as folder:
        quantizable = form.quantizable(source, images, folder)
        looked_at = len(quantizable.images)
        log.info("int8: value ranges are calibrated on %d training images", looked_at)
        quantizable.write(path, settings.float_layers)
        results: Results = {
            "export/calibration_images": looked_at,
            "export/float_layers": settings.float_layers,
        }
        if settings.sensitivity:
            noises = {}
            with progress("quantizing each layer alone", len(quantizable.layers)) as bar:
                for layer, decibels in quantizable.sensitivities(images[:LISTENED]):
                    noises[layer] = decibels
                    bar.update()
            print_sensitivities(noises)
            results |= {f"export/sensitivity/{layer}": value for layer, value in noises.items()}
    return results

"""Int8 export: calibration images, the file, and the most sensitive layers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from parcnet_train.actions.results import Results
from parcnet_train.build import Config
from parcnet_train.deploy.calibration import calibration_images
from parcnet_train.deploy.formats.formats import Format
from parcnet_train.files import scratch_folder
from parcnet_train.models.model import Model
from parcnet_train.predict.tasks import predictor_of
from parcnet_train.report.console.sensitivities import print_sensitivities
from parcnet_train.terminal import progress

log = logging.getLogger(__name__)

LISTENED = 16  # images on which a layer's share of the noise is measured


def quantize(
    config: Config, form: Format, source: Path, path: Path, data: Any, model: Model
) -> Results:
    """Write a file in int8.

    Args:
        config: Configuration of the run.
        form: Format of both files.
        source: File in float32.
        path: File to write in int8.
        data: Data module whose training images give the ranges of values.
        model: Network in float32, in evaluation mode.

    Returns:
        How it was made, and the ratio of signal to noise of every layer where that is wanted.

    Raises:
        ConfigError: where a package is not installed, or a layer has another name.
        DataError: for an unreadable image.
        TrainingError: where the file cannot be made or written.
    """
    assert form.quantizable is not None  # `check` looks after that
    settings = config["export"]
    predictor = predictor_of(config, data.class_names, data.image_size)
    assert predictor is not None  # of all tasks that there are
    images = calibration_images(
        data.make_train_set(),
        predictor,
        model,
        settings["calibration_images"],
        may_skip=config["data"].get("on_error") == "skip",
    )
    with scratch_folder() as folder:
        quantizable = form.quantizable(source, images, folder)
        looked_at = len(quantizable.images)
        log.info("int8: value ranges are calibrated on %d training images", looked_at)
        quantizable.write(path, settings["float_layers"])
        results: Results = {
            "export/calibration_images": looked_at,
            "export/float_layers": settings["float_layers"],
        }
        if settings["sensitivity"]:
            noises = {}
            with progress("quantizing each layer alone", len(quantizable.layers)) as bar:
                for layer, decibels in quantizable.sensitivities(images[:LISTENED]):
                    noises[layer] = decibels
                    bar.update()
            print_sensitivities(noises)
            results |= {f"export/sensitivity/{layer}": value for layer, value in noises.items()}
    return results

"""Int8 export: calibration images, the file, and the most sensitive layers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from parcnet_train.actions.results import Results
from parcnet_train.config.action_sections import Export
from parcnet_train.deploy.calibration import calibration_images, drawn_from, read_from
from parcnet_train.deploy.exportable import Images, Scheme
from parcnet_train.deploy.formats.formats import Format
from parcnet_train.files import scratch_folder
from parcnet_train.models.model import Model
from parcnet_train.predict.predictor import Predictor
from parcnet_train.report.console.sensitivities import print_sensitivities
from parcnet_train.terminal import progress

log = logging.getLogger(__name__)

LISTENED = 16  # images on which a layer's share of the noise is measured


def ranges_from(
    settings: Export, model: Model, predictor: Predictor, data: Any, may_skip: bool
) -> Images:
    """Return the images that int8 takes its ranges from, preprocessed for the network.

    Args:
        settings: Section of the action.
        model: Network in float32, in evaluation mode.
        predictor: Predictor of the task.
        data: Data module whose training images are read if the settings name no folder.
        may_skip: Whether unreadable training images are left out.

    Raises:
        DataError: If there is no image, or one cannot be read.
    """
    if settings.calibration is not None:
        images = read_from(settings.calibration, predictor)
    else:
        images = drawn_from(data.make_train_set(), may_skip)
    return calibration_images(images, predictor, model, settings.calibration_images)


def quantize(settings: Export, form: Format, source: Path, path: Path, images: Images) -> Results:
    """Write a file in int8.

    Args:
        settings: Section of the action.
        form: Format of both files.
        source: File in float32.
        path: File to write in int8.
        images: Images that give the ranges of values.

    Returns:
        How it was made, and the ratio of signal to noise of every layer where that is wanted.

    Raises:
        ConfigError: If a package is not installed, or there is no layer of a name.
        TrainingError: If the file cannot be made or written.
    """
    assert form.quantizable is not None  # `check` looks after that
    with scratch_folder() as folder:
        scheme = Scheme(settings.symmetric, settings.percentile)
        quantizable = form.quantizable(source, images, folder, scheme)
        looked_at = len(quantizable.images)
        log.info("int8: value ranges are calibrated on %d images", looked_at)
        quantizable.write(path, settings.float_layers)
        results: Results = {
            "export/calibration_images": looked_at,
            "export/float_layers": settings.float_layers,
            "export/percentile": settings.percentile,
            "export/symmetric": settings.symmetric,
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

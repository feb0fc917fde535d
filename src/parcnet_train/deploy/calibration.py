"""Calibration images for int8, preprocessed as in an evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from parcnet_train.data.decoding import Image
from parcnet_train.data.protocols import DataSet
from parcnet_train.errors import DataError, UnreadableError
from parcnet_train.models.model import Model, scaled
from parcnet_train.predict.inputs import find_images, read_file
from parcnet_train.predict.predictor import Options, Predictor

log = logging.getLogger(__name__)


class Recording(nn.Module):
    """Wrapper of a model that records the images that the model is called with.

    Args:
        model: Model to wrap.

    Attributes:
        images: Recorded images, each `(1, 3, H, W)` RGB in [0, 1].
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.images: list[npt.NDArray[np.float32]] = []

    def forward(self, images: Tensor) -> Any:
        """Return the model's outputs for `(B, 3, H, W)` images, uint8 or float in [0, 1]."""
        # Other runtimes expect this memory layout, whichever layout the tensor has.
        array = np.ascontiguousarray(scaled(images).numpy())
        self.images += np.split(array, len(array))
        return self.model(images)


def calibration_images(
    images: Iterable[Image], predictor: Predictor, model: Model, count: int
) -> list[npt.NDArray[np.float32]]:
    """Return images preprocessed for the network.

    Args:
        images: Decoded images.
        predictor: Predictor that resizes images, or cuts windows out of them, as an evaluation
            does.
        model: Model on the CPU, in evaluation mode.
        count: Number of images, or of windows. Fewer images give all that they have.

    Raises:
        DataError: If there is no image, or one cannot be read.
    """
    recording = Recording(model)
    for image in images:
        predictor.predict_all(recording, [predictor.prepare(image)], Options())
        if len(recording.images) >= count:
            break
    if not recording.images:
        raise DataError(
            "export.precision=int8: no image can be read; expected some to calibrate on. "
            "Fix: repair the files, or set export.precision=float32"
        )
    return recording.images[:count]


def drawn_from(dataset: DataSet, may_skip: bool) -> Iterator[Image]:
    """Yield the images of a data set in random order.

    Args:
        dataset: Training data set.
        may_skip: Whether unreadable images are left out; otherwise they raise an error.

    Raises:
        UnreadableError: If an image is unreadable and `may_skip` is false.
    """
    for sample in np.random.default_rng(0).permutation(len(dataset)).tolist():
        try:
            image = dataset.original(sample)
        except UnreadableError:
            if not may_skip:
                raise
            continue
        yield image


def read_from(folder: str, predictor: Predictor) -> Iterator[Image]:
    """Yield the images of a folder in random order; unreadable ones are left out with a warning.

    Args:
        folder: Folder, or whatever else `find_images` takes.
        predictor: Predictor of the network, which decides how files are decoded.

    Raises:
        DataError: If there is no image.
    """
    paths = find_images(folder, key="export.calibration").paths
    for place in np.random.default_rng(0).permutation(len(paths)).tolist():
        try:
            image = read_file(paths[place], predictor.max_pixels, predictor.channels)
        except UnreadableError as error:
            log.warning("export.calibration: an image is left out: %s", error)
            continue
        yield image

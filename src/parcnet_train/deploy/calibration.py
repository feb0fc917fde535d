"""Images of a training set as its evaluation would see them, by which ranges of int8 are chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from parcnet_train.data.base import DataSet
from parcnet_train.errors import DataError, UnreadableError
from parcnet_train.models.model import Model, scaled
from parcnet_train.predict.predictor import Options, Predictor


class Recording(nn.Module):
    """Stands for a model, and keeps the images that it is given.

    Attributes:
        images: `(1, 3, H, W)` RGB from 0 to 1 each.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.images: list[npt.NDArray[np.float32]] = []

    def forward(self, images: Tensor) -> Any:
        """What the model gives of `(B, 3, H, W)` images, uint8 or from 0 to 1."""
        # In the order that other runtimes expect, whatever torch's memory has.
        array = np.ascontiguousarray(scaled(images).numpy())
        self.images += np.split(array, len(array))
        return self.model(images)


def calibration_images(
    dataset: DataSet, predictor: Predictor, model: Model, count: int, may_skip: bool
) -> list[npt.NDArray[np.float32]]:
    """So many images of a data set as the network would be given them, drawn at random.

    Args:
        dataset: of the training.
        predictor: knows how an evaluation resizes images, or which windows it cuts out of them.
        model: on the CPU, in evaluation mode.
        count: of images, or of windows; all of a smaller data set.
        may_skip: whether unreadable images are left out.

    Raises:
        DataError: for an unreadable image otherwise, and where none is left.
    """
    recording = Recording(model)
    for sample in np.random.default_rng(0).permutation(len(dataset)).tolist():
        try:
            image = dataset.original(sample)
        except UnreadableError:
            if not may_skip:
                raise
            continue
        predictor.predict_all(recording, [predictor.prepare(image)], Options())
        if len(recording.images) >= count:
            break
    if not recording.images:
        raise DataError(
            "export.precision=int8 takes ranges of values from training images, of which none can "
            "be read; mend them, or export.precision=float32"
        )
    return recording.images[:count]

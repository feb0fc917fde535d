"""What comes before and behind a trained network: what the tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import torch
from torch import Tensor, nn

from parcnet_train.data.decoding import Image
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.loading import stack_images
from parcnet_train.data.samplers import SampleKey
from parcnet_train.errors import UnreadableError
from parcnet_train.predict.inputs import to_pixels
from parcnet_train.predict.predictions import Prediction
from parcnet_train.sizes import Size


class Options(NamedTuple):
    """What a caller chooses."""

    top: int = 5  # classes of an image, the likeliest
    score_threshold: float = 0.3  # probability that a detection has to exceed


class Prepared(NamedTuple):
    """An image as the network takes it."""

    pixels: Tensor  # (3, H, W) uint8, RGB, in memory (H, W, 3)
    placement: Tensor  # (4,) float32, see `DetectionBatch.placements`
    size: Size  # of the original image, in pixels


class Predictor:
    """Base of the predictors, one per task.

    Args:
        class_names: of the network's classes, in their order.
        size: of the network's input.

    Attributes:
        max_pixels: Most pixels of a file that is read; the training's `data.max_pixels`.
    """

    # Whether images keep their sizes, so that no two of them are one batch.
    takes_one: bool = False

    def __init__(self, class_names: Sequence[str], size: Size) -> None:
        self.class_names = list(class_names)
        self.key = SampleKey(0, 0, size)  # of what a data set would be asked for
        self.max_pixels = MAX_PIXELS

    def transform(self, image: Image) -> tuple[Image, Any]:
        """An image of the network's input, and where the original one lies in it, `(4,)`."""
        raise NotImplementedError

    def find(
        self, network: nn.Module, images: Tensor, prepared: Sequence[Prepared], options: Options
    ) -> list[Prediction]:
        """Runs the network.

        Args:
            network: of the task.
            images: `(B, 3, H, W)` uint8, on its device.
            prepared: of the first of them; the others are empty places.
            options: of the caller.
        """
        raise NotImplementedError

    def prepare(self, image: Image) -> Prepared:
        """Turns a decoded image into what the network takes, as the validation does.

        Raises:
            UnreadableError: where it cannot be resized.
        """
        try:
            pixels, placement = self.transform(image)
        except cv2.error as error:
            height, width = image.shape[:2]
            raise UnreadableError(f"its {width}x{height} pixels cannot be resized") from error
        return Prepared(
            torch.from_numpy(pixels).permute(2, 0, 1),
            torch.as_tensor(placement, dtype=torch.float32),
            (image.shape[0], image.shape[1]),
        )

    def predict_all(
        self,
        network: nn.Module,
        prepared: Sequence[Prepared],
        options: Options,
        batch_size: int = 1,
    ) -> list[Prediction]:
        """What the network says of some images, at least one.

        Args:
            network: of the task, in evaluation mode.
            prepared: the images.
            options: of the caller.
            batch_size: places of the batch, those that are left over empty: as in an evaluation,
                what is computed for an image does not depend on how many stand beside it.
        """
        images = [each.pixels for each in prepared]
        images += [torch.zeros_like(images[0])] * (batch_size - len(images))
        device = next(network.parameters()).device
        with torch.inference_mode():
            return self.find(network, stack_images(images).to(device), prepared, options)

    def predict(
        self, network: nn.Module, image: Any, top: int, score_threshold: float
    ) -> Prediction:
        """What the network says of one image of Python code, see `to_pixels`."""
        prepared = self.prepare(to_pixels(image, self.max_pixels))
        (found,) = self.predict_all(network, [prepared], Options(top, score_threshold))
        return found

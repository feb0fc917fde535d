"""Base class of the predictors: preprocessing and postprocessing that all tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import torch
from torch import Tensor, nn

from parcnet_train.data.channels import RGB
from parcnet_train.data.decoding import Image
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.loading import stack_images
from parcnet_train.data.samplers import SampleKey
from parcnet_train.errors import UnreadableError
from parcnet_train.predict.inputs import to_pixels
from parcnet_train.predict.predictions import Prediction
from parcnet_train.sizes import Size


class Options(NamedTuple):
    """Options of a prediction."""

    top: int = 5  # number of classes per image, the most probable ones
    score_threshold: float = 0.3  # probability that a detection has to exceed


class Prepared(NamedTuple):
    """An image, preprocessed for the network."""

    pixels: Tensor  # (C, H, W) uint8, in memory (H, W, C)
    placement: Tensor  # (4,) float32, see `DetectionBatch.placements`
    size: Size  # of the original image, in pixels


class Predictor:
    """Base class of the predictors, one per task.

    Args:
        class_names: Names of the network's classes, in their order.
        size: Height and width of the network's input, in pixels.

    Attributes:
        max_pixels: Largest number of pixels of a file that is read: `data.max_pixels` of the
            training.
        channels: Number of channels of the network's images: `data.channels` of the training.
    """

    # Whether images keep their sizes, so that every batch has one image.
    takes_one: bool = False

    def __init__(self, class_names: Sequence[str], size: Size) -> None:
        self.class_names = list(class_names)
        self.key = SampleKey(0, 0, size)  # the transforms read only the size
        self.max_pixels = MAX_PIXELS
        self.channels = RGB

    def about(self) -> dict[str, Any]:
        """Return how an image becomes the network's input, as an exported file tells it.

        Returns:
            `resize`: height and width to resize to, None if images are not resized. `keep_aspect`:
            whether the aspect ratio is kept; the image then covers `resize` if there is a `crop`,
            and fits into it otherwise. `crop`: height and width of the part that is cut out of the
            center, or of the windows. `fill`: value of the pixels that no image covers.
        """
        raise NotImplementedError

    def transform(self, image: Image) -> tuple[Image, Any]:
        """Return the network's input, and the placement `(4,)` of the original image in it."""
        raise NotImplementedError

    def find(
        self, network: nn.Module, images: Tensor, prepared: Sequence[Prepared], options: Options
    ) -> list[Prediction]:
        """Run the network and postprocess its outputs.

        Args:
            network: Network of the task.
            images: Images `(B, C, H, W)` uint8, on the network's device.
            prepared: Prepared images, which come first in the batch; the rest of it is padding.
            options: Options of the caller.
        """
        raise NotImplementedError

    def prepare(self, image: Image) -> Prepared:
        """Preprocess a decoded image as the validation does.

        Raises:
            UnreadableError: If it cannot be resized.
        """
        try:
            pixels, placement = self.transform(image)
        except cv2.error as error:
            height, width = image.shape[:2]
            raise UnreadableError(f"{width}x{height} pixels cannot be resized") from error
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
        """Predict on one or more images.

        Args:
            network: Network of the task, in evaluation mode.
            prepared: Prepared images.
            options: Options of the caller.
            batch_size: Size up to which the batch is padded. As in an evaluation, the result for an
                image then does not depend on the number of images beside it.
        """
        images = [each.pixels for each in prepared]
        images += [torch.zeros_like(images[0])] * (batch_size - len(images))
        device = next(network.parameters()).device
        with torch.inference_mode():
            return self.find(network, stack_images(images).to(device), prepared, options)

    def predict(
        self, network: nn.Module, image: Any, top: int, score_threshold: float
    ) -> Prediction:
        """Predict on one image given in Python code; see `to_pixels` for what it may be."""
        prepared = self.prepare(to_pixels(image, self.max_pixels, self.channels))
        (found,) = self.predict_all(network, [prepared], Options(top, score_threshold))
        return found

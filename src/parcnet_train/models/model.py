"""Backbone and head as one network."""

from __future__ import annotations

from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from parcnet_train.errors import CheckpointError
from parcnet_train.models.base import Backbone


class Predictor(Protocol):
    """What comes before and behind a trained network, see `predict/predictor.py`."""

    def predict(self, network: nn.Module, image: Any, top: int, score_threshold: float) -> Any:
        """What the network says of one image."""


def scaled(images: Tensor) -> Tensor:
    """Images as numbers from 0 to 1.

    Args:
        images: `(B, 3, H, W)` RGB; uint8, or float in [0, 1], which stays as it is.
    """
    if images.is_floating_point():
        return images
    # The colours of a pixel come side by side; which layout to compute in is the weights' choice.
    numbers = images.to(torch.get_default_dtype(), memory_format=torch.contiguous_format)
    return numbers / 255


class Model(nn.Module):
    """A backbone and a head; takes images as they come from the disk, RGB.

    Args:
        backbone: makes one map per level.
        head: turns the maps into the task's outputs; with `classifies_pixels = True` it takes the
            height and width of the images too, which maps do not tell of every size.
    """

    predictor: Predictor | None = None  # of a checkpoint, whose classes and sizes it knows

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def train(self, mode: bool = True) -> Self:
        """As of any module; what holds nothing but frozen parameters stays in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            parameters = list(module.parameters())
            is_frozen = parameters and not any(each.requires_grad for each in parameters)
            if is_frozen and module is not self:  # else without end
                module.train(False)
        return self

    def forward(self, images: Tensor) -> Any:
        """Runs the network.

        Args:
            images: `(B, 3, H, W)` RGB; uint8, or float in [0, 1].

        Returns:
            What the head returns.
        """
        maps = self.backbone(scaled(images))
        if getattr(self.head, "classifies_pixels", False):
            return self.head(maps, images.shape[2:])
        return self.head(maps)

    def predict(self, image: Any, top: int = 5, score_threshold: float = 0.3) -> Any:
        """What the network says of one image of any size, which is prepared as in its evaluation.

        Args:
            image: a path, an image of Pillow, or an array `(H, W, 3)` uint8, RGB.
            top: of a classifier, how many classes.
            score_threshold: of a detector, probability that an object has to exceed.

        Returns:
            `Classified`, `Detected` or `Segmented`, see `predict/predictions.py`.

        Raises:
            CheckpointError: for a model that is not of a checkpoint.
            UnreadableError: for a file that cannot be read.
            DataError: for what is no image.
        """
        if self.predictor is None:
            raise CheckpointError(
                "predict: this model is of no checkpoint of a known task, so nothing tells its "
                "classes and the size of its images; allowed is what parcnet_train.load(PATH) gives"
            )
        return self.predictor.predict(self, image, top, score_threshold)

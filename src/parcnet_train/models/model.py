"""A backbone and a head, joined into one network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from parcnet_train.errors import CheckpointError
from parcnet_train.models.base import Backbone


class Predictor(Protocol):
    """The pre- and post-processing of a trained network, see `predict/predictor.py`."""

    def predict(self, network: nn.Module, image: Any, top: int, score_threshold: float) -> Any:
        """Return the network's prediction for one image."""


def scaled(images: Tensor) -> Tensor:
    """Convert images to floats in [0, 1].

    Args:
        images: RGB images `(B, 3, H, W)`, uint8, or float in [0, 1], which are returned unchanged.
    """
    if images.is_floating_point():
        return images
    # The colors of a pixel may be adjacent in memory; the weights decide the layout to compute in.
    numbers = images.to(torch.get_default_dtype(), memory_format=torch.contiguous_format)
    return numbers / 255


class Model(nn.Module):
    """A backbone and a head; takes RGB images as they are read from disk.

    Args:
        backbone: Encoder that makes one map per level.
        head: Module that turns the maps into the task's outputs. With `classifies_pixels = True` it
            also takes the height and width of the images, which cannot always be derived from the
            maps.
    """

    predictor: Predictor | None = None  # set by a checkpoint, which has the classes and sizes

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.in_channels = backbone.in_channels

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; modules with only frozen parameters stay in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            parameters = list(module.parameters())
            is_frozen = parameters and not any(each.requires_grad for each in parameters)
            if is_frozen and module is not self:  # `self` would recurse forever
                module.train(False)
        return self

    def forward(self, images: Tensor, with_maps: bool = False) -> Any:
        """Run the network.

        Args:
            images: RGB images `(B, 3, H, W)`, uint8, or float in [0, 1].
            with_maps: Whether to return the backbone's maps as well.

        Returns:
            The output of the head; with `with_maps`, a pair of it and the maps.
        """
        maps = self.encode(images)
        outputs = self.decode(maps, images.shape[2:])
        return (outputs, maps) if with_maps else outputs

    def encode(self, images: Tensor) -> list[Tensor]:
        """Return the backbone's maps of images, as `forward` takes them."""
        return self.backbone(scaled(images))

    def decode(self, maps: list[Tensor], size: Sequence[int]) -> Any:
        """Return the head's output for the backbone's maps of images of a height and width."""
        if getattr(self.head, "classifies_pixels", False):
            return self.head(maps, size)
        return self.head(maps)

    def predict(self, image: Any, top: int = 5, score_threshold: float = 0.3) -> Any:
        """Predict one image of any size, prepared as in the evaluation of the model.

        Args:
            image: Path, Pillow image, or array `(H, W, 3)` uint8, RGB; other networks take their
                own number of channels.
            top: Number of classes that a classifier returns.
            score_threshold: Probability that an object must exceed to be returned by a detector.

        Returns:
            `Classified`, `Detected` or `Segmented`, see `predict/predictions.py`.

        Raises:
            CheckpointError: If the model was not loaded from a checkpoint.
            UnreadableError: If the file cannot be read.
            DataError: If the input is not an image.
        """
        if self.predictor is None:
            raise CheckpointError(
                "predict: the model was not loaded from a checkpoint of a known task, so its "
                "classes and image size are unknown. Fix: use parcnet_train.load(PATH)"
            )
        return self.predictor.predict(self, image, top, score_threshold)

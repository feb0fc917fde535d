"""Backbone and head as one network."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from parcnet_train.features import Backbone


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

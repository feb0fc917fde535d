"""What a backbone states about its feature maps, and heads are completed with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Level:
    """One feature map of a backbone.

    Attributes:
        stride: input pixels per feature pixel, along both axes.
        channels: channels of the map.
        expansion: channels that a classifier expands this level to (1x1 convolution) before it
            pools; None where the family pools the level as it is. Dense heads ignore it.
    """

    stride: int
    channels: int
    expansion: int | None = None


class Backbone(nn.Module):
    """An image encoder that states its feature maps in `levels`, finest first.

    A subclass sets `levels`, and `stages`: one module per level, each reading the map of the one
    before. A network of another shape overrides `forward`.
    """

    levels: tuple[Level, ...]
    stages: nn.ModuleList

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encodes images.

        Args:
            images: `(B, 3, H, W)` float RGB in [0, 1].

        Returns:
            One map `(B, level.channels, H / level.stride, W / level.stride)` per level.
        """
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps

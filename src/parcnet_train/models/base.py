"""What a backbone states about its feature maps, and heads are completed with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

OutputStride = Literal[8, 16, 32]


@dataclass(frozen=True)
class Level:
    """One feature map of a backbone.

    Attributes:
        stride: input pixels per feature pixel, along both axes.
        channels: channels of the map.
        expansion: channels that a classifier expands this level to (1x1 convolution) before it
            pools; None where the family pools the level as it is. Dense heads ignore it.
        activation: behind that expansion.
        pooled_norm: epsilon of the layer norm between a classifier's pooling and its linear layer;
            None where the family has none.
    """

    stride: int
    channels: int
    expansion: int | None = None
    activation: type[nn.Module] = nn.SiLU
    pooled_norm: float | None = None


@dataclass(frozen=True)
class StageSampling:
    """How one of the last three stages (strides 8, 16, 32) samples its input.

    Attributes:
        stride: 2, or 1 where the output stride is reached.
        output_stride: input pixels per feature pixel behind the stage.
        dilation_before: of the convolution that would have had the stride.
        dilation: that keeps the receptive field of what follows it.
    """

    stride: int
    output_stride: int
    dilation_before: int
    dilation: int


def last_stages(output_stride: OutputStride) -> tuple[StageSampling, ...]:
    """The stages of stride 8, 16 and 32, their strides replaced by dilation from one of them on."""
    stages = []
    dilation = 1
    for stride in (8, 16, 32):
        before = dilation
        if stride > output_stride:
            dilation *= 2
        stages.append(
            StageSampling(2 if dilation == before else 1, stride // dilation, before, dilation)
        )
    return tuple(stages)


class Backbone(nn.Module):
    """An image encoder that states its feature maps in `levels`, finest first.

    A subclass sets `levels`, and `stages`: one module per level, each reading the map of the one
    before. They may be a plain list, where their layers are registered under other names. A network
    of another shape overrides `forward` and `stage_parameters`.
    """

    levels: tuple[Level, ...]
    stages: nn.ModuleList | list[nn.Module]

    def stage_parameters(self) -> list[list[nn.Parameter]]:
        """The parameters of each stage, one stage per level, finest first."""
        return [list(stage.parameters()) for stage in self.stages]

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

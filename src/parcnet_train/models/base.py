"""The interface between backbones and heads: feature levels, output strides, `Backbone`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from parcnet_train.data.channels import RGB
from parcnet_train.errors import ConfigError

OutputStride = Literal[8, 16, 32]


@dataclass(frozen=True)
class Level:
    """One feature map of a backbone.

    Attributes:
        stride: Input pixels per feature pixel, along both axes.
        channels: Number of channels of the map.
        expansion: Number of channels to which a classifier expands this level (1x1 convolution)
            before it pools; None if the family pools the level unchanged. Dense heads ignore it.
        activation: Activation after that expansion.
        pooled_norm: Epsilon of the layer norm between a classifier's pooling and its linear layer;
            None if the family has no such norm.
    """

    stride: int
    channels: int
    expansion: int | None = None
    activation: type[nn.Module] = nn.SiLU
    pooled_norm: float | None = None


@dataclass(frozen=True)
class StageSampling:
    """Stride and dilation of one of the last three stages (strides 8, 16, 32).

    Attributes:
        stride: Stride of the stage: 2, or 1 once the output stride is reached.
        output_stride: Input pixels per feature pixel after the stage.
        dilation_before: Dilation of the convolution that would have had the stride.
        dilation: Dilation of the following convolutions, which keeps their receptive field.
    """

    stride: int
    output_stride: int
    dilation_before: int
    dilation: int


def last_stages(output_stride: OutputStride) -> tuple[StageSampling, ...]:
    """Return the sampling of the stages of stride 8, 16, 32; dilation replaces excess strides."""
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


def require_levels(levels: Sequence[Level], head: str) -> None:
    """Check that a dense head gets feature maps of several strides.

    Args:
        levels: Levels of the backbone.
        head: Config of the head, for the message.

    Raises:
        ConfigError: If there is only one level.
    """
    if len(levels) < 2:
        raise ConfigError(
            f"head={head}: the backbone has one level, of stride {levels[0].stride}; expected two "
            "or more. Fix: choose a backbone with several levels, such as backbone=parcnet_s",
            "backbone",
        )


class Backbone(nn.Module):
    """An image encoder that declares its feature maps in `levels`, finest first.

    A subclass sets `levels` and `stages`. There is one stage per level, and each reads the map of
    the previous one; stages before them belong to the first level. `stages` may be a plain list if
    its layers are registered under other names. A network of a different shape overrides `forward`
    and `stage_parameters`.

    A network that has a classifier of its own, from its library or its paper, sets
    `brings_classifier` and takes the argument `native`, which `build.py` supplies for
    `head=native`. It then has one level, whose map is the vector `(B, channels)` that its
    classifier takes, and `classifier` makes that classifier.

    Attributes:
        output_strides: Values that the argument `output_stride` can have.
        native_entries: Beginnings of the names of weights that only the network with its own
            classifier has; `backbone.pretrained` leaves them out of a checkpoint of it.
        levels: Feature maps, finest first.
        fixed_size: Height and width of the only images that the network takes, in pixels; None: any
            multiple of its last stride.
        in_channels: Number of channels of the images, see `adapt_input`.
    """

    brings_classifier: ClassVar[bool] = False
    output_strides: ClassVar[tuple[int, ...]] = (8, 16, 32)
    native_entries: ClassVar[tuple[str, ...]] = ()
    levels: tuple[Level, ...]
    fixed_size: tuple[int, int] | None = None
    in_channels: int = RGB
    stages: nn.ModuleList | list[nn.Module]

    def classifier(self, num_classes: int) -> nn.Module:
        """Make the network's own classifier, from `(B, channels)` to `(B, num_classes)` logits."""
        raise NotImplementedError

    def stage_parameters(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each stage, one stage per level, finest first."""
        stages = [list(stage.parameters()) for stage in self.stages]
        first = len(stages) - len(self.levels) + 1
        return [[each for stage in stages[:first] for each in stage], *stages[first:]]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode images.

        Args:
            images: Float RGB images `(B, 3, H, W)` in [0, 1], or images of `in_channels` channels.

        Returns:
            One map `(B, level.channels, H / level.stride, W / level.stride)` per level.
        """
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return maps[-len(self.levels) :]


def channels_of(network: nn.Module) -> int:
    """Return the number of channels of a network's images: RGB, unless it declares another one."""
    channels: int = getattr(network, "in_channels", RGB)
    return channels

"""SSD (arXiv 1512.02325) with separable convolutions, as in MobileNetV2 (arXiv 1801.04381).

Layers, channels and initial weights are released values of ParC-Net's detector (arXiv 2203.03952).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from parcnet_train.bounds import Count, PositiveShare
from parcnet_train.detection.anchors import SMALLEST, anchors_per_cell, make_anchors
from parcnet_train.detection.types import DetectionOutputs
from parcnet_train.errors import ConfigError
from parcnet_train.models.base import Level, require_levels
from parcnet_train.models.layers.blocks import ConvNormAct

STRIDES = (16, 32)  # strides of the backbone's levels that are used
COORDINATES = 4  # numbers per box


class SSDLite(nn.Module):
    """Detection head on six levels: strides 16 to 256, and one cell for the whole image.

    The backbone provides the first two levels. The next three follow from the second, each at half
    the resolution, and the last is their average, a map of 1x1.

    Args:
        levels: Levels of the backbone; those of stride 16 and 32 are used.
        num_classes: Number of class logits, including the background.
        projections: Numbers of channels to which the two levels are projected before their
            predictors.
        extra_channels: Numbers of channels of the levels of stride 64, 128, 256, and of the last
            one.
        smallest_anchor: Side of the smallest square anchors, as a share of the image. The default
            suits images of 320 pixels. Smaller images need a larger value, since the distance
            between anchors in pixels is the same.

    Raises:
        ConfigError: If the backbone has one level, or none of stride 16 or 32.
    """

    task: ClassVar[str] = "detection"

    def __init__(
        self,
        levels: Sequence[Level],
        num_classes: int,
        projections: tuple[Count, Count] = (512, 256),
        extra_channels: tuple[Count, Count, Count, Count] = (256, 128, 128, 64),
        smallest_anchor: PositiveShare = SMALLEST,
    ) -> None:
        super().__init__()
        require_levels(levels, "ssdlite")
        self.smallest_anchor = smallest_anchor
        strides = [level.stride for level in levels]
        if not set(STRIDES) <= set(strides):
            raise ConfigError(
                f"head=ssdlite: the levels of the backbone have strides "
                f"{', '.join(map(str, strides))}; expected 16 and 32 among them. Fix: set "
                "backbone.output_stride=32, or choose a backbone that has both"
            )
        self.indices = [strides.index(stride) for stride in STRIDES]
        given = [levels[index].channels for index in self.indices]
        self.projections = nn.ModuleList(map(projection, given, projections))
        *strided, last = extra_channels
        pairs = zip((given[-1], *strided), strided, strict=False)
        self.extra = nn.ModuleList(separable(*pair) for pair in pairs)
        self.pooled = nn.Sequential(nn.Conv2d(strided[-1], last, 1, bias=False), nn.ReLU())
        channels = (*projections, *extra_channels)
        self.values = COORDINATES + num_classes  # per anchor
        counts = [each * self.values for each in anchors_per_cell(len(channels))]
        self.predictors = nn.ModuleList(map(predictor, channels[:-1], counts[:-1]))
        self.predictors.append(nn.Conv2d(last, counts[-1], 1))
        self.apply(initialize)

    def forward(self, maps: Sequence[Tensor]) -> DetectionOutputs:
        """Detect objects.

        Args:
            maps: Maps of all levels of the backbone, `(B, C, H / stride, W / stride)`.

        Returns:
            Class logits `(B, A, num_classes)`, box offsets `(B, A, 4)`, and the anchors `(A, 4)` to
            which both belong.
        """
        read = [maps[index] for index in self.indices]
        features = features_of(read, self.projections, self.extra)
        features.append(self.pooled(features[-1].mean((2, 3), keepdim=True)))
        predicted = torch.cat(
            [
                # The channels of one anchor are adjacent.
                predict(each).permute(0, 2, 3, 1).reshape(each.shape[0], -1, self.values)
                for predict, each in zip(self.predictors, features, strict=True)
            ],
            dim=1,
        )
        sizes = [(each.shape[2], each.shape[3]) for each in features]
        return DetectionOutputs(
            class_logits=predicted[..., COORDINATES:],
            box_offsets=predicted[..., :COORDINATES],
            anchors=make_anchors(sizes, self.smallest_anchor, predicted.device),
        )


def features_of(
    read: Sequence[Tensor], projections: nn.ModuleList, extra: nn.ModuleList
) -> list[Tensor]:
    """Return the inputs of the predictors of all levels except the last, which is a single cell.

    Args:
        read: Maps of the backbone.
        projections: One projection for each of these maps.
        extra: Layers that make each further level from the one before, starting at the last map.
    """
    features = [project(x) for project, x in zip(projections, read, strict=True)]
    x = read[-1]
    for layer in extra:
        x = layer(x)
        features.append(x)
    return features


def projection(in_channels: int, out_channels: int) -> nn.Module:
    """Return a 1x1 convolution if the number of channels changes, otherwise an identity."""
    if in_channels == out_channels:
        return nn.Identity()
    return ConvNormAct(in_channels, out_channels, activation=nn.ReLU)


def depthwise(channels: int, stride: int = 1) -> ConvNormAct:
    """Return a depthwise 3x3 convolution."""
    return ConvNormAct(channels, channels, 3, stride, channels, activation=None)


def separable(in_channels: int, out_channels: int) -> nn.Module:
    """Return a layer from one level to the next, which halves height and width, rounded up."""
    return nn.Sequential(
        depthwise(in_channels, stride=2),
        ConvNormAct(in_channels, out_channels, activation=nn.ReLU),
    )


def predictor(in_channels: int, out_channels: int) -> nn.Module:
    """Return a layer that predicts the classes and offsets of a level's anchors."""
    return nn.Sequential(depthwise(in_channels), nn.Conv2d(in_channels, out_channels, 1))


def initialize(module: nn.Module) -> None:
    """Set initial weights as released: Xavier uniform; biases 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def classes_of_last(channels: int) -> int:
    """Return the number of classes of a detector, from the length of its last predictor's bias."""
    return channels // anchors_per_cell(1)[0] - COORDINATES

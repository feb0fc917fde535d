"""DeepLabV3: Chen et al., arXiv 1706.05587, as released with ParC-Net (arXiv 2203.03952).

Channels, rates, dropout and initial weights are released values. Unlike torchvision's, it has no
3x3 convolution between ASPP and the classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from parcnet_train.bounds import Count, Share
from parcnet_train.errors import ConfigError
from parcnet_train.models.base import Level, require_levels
from parcnet_train.models.layers.blocks import ConvNormAct, initialize
from parcnet_train.models.layers.dropout import Dropout

STRIDES = (8, 16)  # strides of the last level for which rates are published
AUXILIARY_REDUCTION = 4  # channel reduction in the auxiliary classifier (torchvision's)


class ImagePooling(nn.Sequential):
    """Average a map, mix its channels, and broadcast the result over the map."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1), ConvNormAct(in_channels, out_channels, activation=nn.ReLU)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to `(B, out_channels, H, W)`."""
        size = x.shape[2:]
        for layer in self:
            x = layer(x)
        # The release interpolates bilinearly, which for a single pixel is a broadcast.
        return x.expand(-1, -1, *size)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (arXiv 1706.05587, section 3.3).

    Args:
        in_channels: Number of channels of the map.
        channels: Number of channels of every branch and of the result.
        rates: Dilations of the 3x3 branches.
        dropout: Dropout probability after the projection.
    """

    def __init__(
        self, in_channels: int, channels: int, rates: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                ConvNormAct(in_channels, channels, activation=nn.ReLU),
                *(
                    ConvNormAct(in_channels, channels, 3, dilation=rate, activation=nn.ReLU)
                    for rate in rates
                ),
                ImagePooling(in_channels, channels),
            ]
        )
        self.project = ConvNormAct(len(self.branches) * channels, channels, activation=nn.ReLU)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to `(B, channels, H, W)`."""
        branches = torch.cat([branch(x) for branch in self.branches], dim=1)
        return self.dropout(self.project(branches))


class DeepLabV3(nn.Module):
    """ASPP on the last level, a pixel classifier, and bilinear upsampling.

    Args:
        levels: Levels of the backbone; the last one has stride 8 or 16.
        num_classes: Number of logits, including the background if there is one.
        channels: Number of channels of ASPP.
        rates: Dilations of ASPP at stride 16; they are doubled at stride 8 (arXiv 1706.05587,
            section 3.3).
        dropout: Dropout probability after ASPP, and of whole channels before the classifier.
        auxiliary: Whether training has a second classifier, on the level before the last, which has
            stride 16 in a classification backbone (torchvision's `layer3`).

    Raises:
        ConfigError: If the last level has a different stride, or is the only one.
    """

    task: ClassVar[str] = "segmentation"
    classifies_pixels: ClassVar[bool] = True

    def __init__(
        self,
        levels: Sequence[Level],
        num_classes: int,
        channels: Count = 256,
        rates: tuple[Count, ...] = (6, 12, 18),
        dropout: Share = 0.1,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        require_levels(levels, "deeplabv3")
        last = levels[-1]
        if last.stride not in STRIDES:
            raise ConfigError(
                f"head=deeplabv3: the last level of the backbone has stride {last.stride}; "
                "expected 8 or 16. Fix: set backbone.output_stride=16"
            )
        scale = max(STRIDES) // last.stride
        self.aspp = ASPP(last.channels, channels, [rate * scale for rate in rates], dropout)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        self.auxiliary = (
            auxiliary_classifier(levels[-2].channels, num_classes, dropout) if auxiliary else None
        )
        self.apply(initialize)

    def forward(
        self, maps: Sequence[Tensor], size: tuple[int, int]
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Classify pixels.

        Args:
            maps: Maps of all levels of the backbone, `(B, C, H / stride, W / stride)`.
            size: Height H and width W of the images, in pixels.

        Returns:
            Logits `(B, num_classes, H, W)`; in training with an auxiliary classifier, also its
            logits, of the same shape.
        """
        logits = enlarge(self.classifier(self.dropout(self.aspp(maps[-1]))), size)
        if self.auxiliary is None or not self.training:
            return logits
        return logits, enlarge(self.auxiliary(maps[-2]), size)


def auxiliary_classifier(in_channels: int, num_classes: int, dropout: float) -> nn.Module:
    """Build torchvision's auxiliary classifier from `in_channels` to logits of the same size."""
    hidden = in_channels // AUXILIARY_REDUCTION
    return nn.Sequential(
        ConvNormAct(in_channels, hidden, 3, activation=nn.ReLU),
        Dropout(dropout),
        nn.Conv2d(hidden, num_classes, 1),
    )


def enlarge(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample `(B, K, h, w)` bilinearly to `(B, K, *size)`."""
    return functional.interpolate(logits, size, mode="bilinear")

"""DeepLabV3: Chen et al., arXiv 1706.05587; the released sizes of ParC-Net and MobileViT.

The numbers are those of the authors' configuration: 256 channels, no decoder. docs/fidelity.md has
what differs from the DeepLabV3 of other libraries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from parcnet_train.blocks import ConvNormAct, initialize
from parcnet_train.features import Level

STRIDES = (8, 16)  # of a last map that the rates are published for
AUXILIARY_SHARE = 4  # channels of the map over those of the auxiliary head (torchvision's)


class ImagePooling(nn.Sequential):
    """The mean of a map, its channels mixed, spread over the map again."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1), ConvNormAct(in_channels, out_channels, activation=nn.ReLU)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, in_channels, H, W)` to `(B, out_channels, H, W)`."""
        # Of one pixel, what the release's bilinear interpolation makes is the pixel itself.
        return super().forward(x).expand(-1, -1, *x.shape[2:])


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (arXiv 1706.05587, section 3.3).

    Args:
        in_channels: of the map.
        channels: of every branch, and of the result.
        rates: dilations of the 3x3 branches.
        dropout: probability behind the projection.
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
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, in_channels, H, W)` to `(B, channels, H, W)`."""
        branches = torch.cat([branch(x) for branch in self.branches], dim=1)
        return self.dropout(self.project(branches))


class DeepLabV3(nn.Module):
    """ASPP on the last map, a linear classifier of its pixels, and bilinear enlargement.

    Args:
        levels: of the backbone; the last one has stride 8 or 16.
        num_classes: channels of the logits.
        channels: of ASPP (released value).
        rates: dilations of ASPP at stride 16; at stride 8 they are twice as large (arXiv
            1706.05587, section 4.1).
        dropout: behind ASPP, and of whole channels in front of the classifier (released value).
        auxiliary: whether a second classifier, of the level before the last one of another stage,
            takes part in training.

    Raises:
        ValueError: where the last level has another stride.
    """

    task: ClassVar[str] = "segmentation"

    def __init__(
        self,
        levels: Sequence[Level],
        num_classes: int,
        channels: int = 256,
        rates: Sequence[int] = (6, 12, 18),
        dropout: float = 0.1,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        last, before = levels[-1], levels[-2]
        if last.stride not in STRIDES:
            raise ValueError(
                f"head=deeplabv3 needs a last level of stride 8 or 16, the backbone ends at "
                f"{last.stride}; set backbone.output_stride=16"
            )
        self.stride = last.stride
        self.aspp = ASPP(
            last.channels, channels, [rate * 16 // last.stride for rate in rates], dropout
        )
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        self.apply(initialize)
        self.auxiliary: nn.Module | None = None
        if auxiliary:
            hidden = before.channels // AUXILIARY_SHARE
            self.auxiliary = nn.Sequential(
                ConvNormAct(before.channels, hidden, 3, activation=nn.ReLU),
                nn.Dropout(dropout),
                nn.Conv2d(hidden, num_classes, 1),
            ).apply(initialize)
            self.auxiliary_stride = before.stride

    def forward(self, maps: Sequence[Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """Classifies pixels.

        Args:
            maps: of the backbone; the last one is `(B, C, h, w)`.

        Returns:
            Logits `(B, num_classes, h * stride, w * stride)`; in training, where there is an
            auxiliary classifier, with those of the latter, of the same shape.
        """
        logits = self.classifier(self.dropout(self.aspp(maps[-1])))
        logits = enlarge(logits, self.stride)
        if self.auxiliary is None or not self.training:
            return logits
        return logits, enlarge(self.auxiliary(maps[-2]), self.auxiliary_stride)


def enlarge(logits: Tensor, scale: int) -> Tensor:
    """Enlarges `(B, K, h, w)` to `(B, K, h * scale, w * scale)`."""
    return functional.interpolate(logits, scale_factor=float(scale), mode="bilinear")

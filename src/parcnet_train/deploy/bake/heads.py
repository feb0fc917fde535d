"""Baked versions of `Model` and of the heads: feature map sizes are constants in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from parcnet_train.detection.anchors import make_anchors
from parcnet_train.detection.types import DetectionOutputs
from parcnet_train.models.heads.deeplabv3 import ASPP, DeepLabV3, ImagePooling
from parcnet_train.models.heads.ssdlite import COORDINATES, SSDLite, features_of
from parcnet_train.models.model import Model

Size = tuple[int, int]


class FixedModel(nn.Module):
    """`Model` for one image size.

    Args:
        model: Model to replace; its parts are already baked.
        size: Height and width of the images, in pixels.
    """

    def __init__(self, model: Model, size: Size) -> None:
        super().__init__()
        self.size = size
        self.backbone, self.head = model.backbone, model.head
        self.takes_size = getattr(model.head, "classifies_pixels", False)

    def forward(self, images: Tensor) -> Any:
        """Run the network on `(B, 3, *size)` float RGB in [0, 1]; return the head's outputs."""
        maps = self.backbone(images)
        return self.head(maps, self.size) if self.takes_size else self.head(maps)


class FixedSSDLite(nn.Module):
    """`SSDLite` for fixed feature map sizes.

    Args:
        head: Head to replace.
        sizes: Height and width of the feature map of every level of the backbone.
    """

    task: ClassVar[str] = SSDLite.task
    anchors: Tensor

    def __init__(self, head: SSDLite, sizes: Sequence[Size]) -> None:
        super().__init__()
        self.indices, self.values = head.indices, head.values
        self.projections, self.extra = head.projections, head.extra
        self.pooled, self.predictors = head.pooled, head.predictors
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.map_sizes = [sizes[index] for index in self.indices]
        for _ in self.extra:
            height, width = self.map_sizes[-1]
            self.map_sizes.append(((height + 1) // 2, (width + 1) // 2))
        self.map_sizes.append((1, 1))
        self.smallest_anchor = head.smallest_anchor
        anchors = make_anchors(self.map_sizes, self.smallest_anchor)
        self.register_buffer("anchors", anchors, persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> DetectionOutputs:
        """Return the raw detections, as `SSDLite.forward` does."""
        read = [maps[index] for index in self.indices]
        features = features_of(read, self.projections, self.extra)
        features.append(self.pooled(self.pool(features[-1])))
        parts = []
        for predict, each, (rows, columns) in zip(
            self.predictors, features, self.map_sizes, strict=True
        ):
            predicted = predict(each).permute(0, 2, 3, 1)
            anchors = rows * columns * (self.outputs_of(predict) // self.values)
            parts.append(predicted.reshape(-1, anchors, self.values))
        joined = torch.cat(parts, dim=1)
        return DetectionOutputs(joined[..., COORDINATES:], joined[..., :COORDINATES], self.anchors)

    @staticmethod
    def outputs_of(predictor: nn.Module) -> int:
        """Return the number of output channels of a predictor."""
        *_, last = (each for each in predictor.modules() if isinstance(each, nn.Conv2d))
        return last.out_channels


class FixedPooling(nn.Module):
    """`ImagePooling` for one feature map size.

    Adding zeros of that size broadcasts the mean over the map without reading a shape. The mean is
    not a pooling layer, because MNN's int8 pooling quantizes its output with the step size of its
    input, which is too coarse for a mean; `mean` stays in float.
    """

    zeros: Tensor

    def __init__(self, pooling: ImagePooling, size: Size) -> None:
        super().__init__()
        self.mix = pooling[1]
        self.register_buffer("zeros", torch.zeros(1, 1, *size), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to `(B, out_channels, H, W)`."""
        mixed: Tensor = self.mix(x.mean(dim=(2, 3), keepdim=True))
        return mixed + self.zeros


def bake_deeplab(head: DeepLabV3, sizes: Sequence[Size]) -> DeepLabV3:
    """Rewrite `DeepLabV3` for fixed feature map sizes, without the parts only training needs."""
    aspp: ASPP = head.aspp
    pooling = aspp.branches[-1]
    assert isinstance(pooling, ImagePooling)  # for the type checker
    aspp.branches[-1] = FixedPooling(pooling, sizes[-1])
    head.auxiliary = None
    return head

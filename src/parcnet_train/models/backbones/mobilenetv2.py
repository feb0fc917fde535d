"""MobileNetV2: Sandler et al., CVPR 2018, arXiv 1801.04381; and ParC-MobileNetV2.

The network is torchvision's. The depthwise convolutions that ParC replaces, and the position
embeddings among them, follow the released ParC-MobileNetV2 (section 4.5 of ParC-Net's paper).
"""

from __future__ import annotations

import torchvision
from torch import nn

from parcnet_train.bounds import Pixels, Positive
from parcnet_train.models.backbones.adapt import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Normalize,
    Triple,
    dilate,
    insert_parc,
)
from parcnet_train.models.base import Backbone, Level, OutputStride, last_stages
from parcnet_train.models.layers.circular import Algorithm
from parcnet_train.models.layers.parc import CircularConv


class MobileNetV2(Backbone):
    """torchvision's MobileNetV2 of width 1, without its classifier and the expansion before it.

    Parameters are named `network.` followed by torchvision's name. The expansion that torchvision
    calls `features.18` is part of our classifier head.

    Args:
        output_stride: Stride of the last level; values below 32 replace stride by dilation.
        parc_layers: Names or patterns of the depthwise convolutions of stride 1 that ParC replaces,
            such as `features.16.conv.1.0`.
        position_embeddings: Layers with position embeddings: all of them (true), none (false), or
            the named ones.
        meta_size: Image size in pixels (one number, or height and width) whose feature sizes set
            the lengths of ParC's kernels and embeddings; they are resized for other sizes.
        algorithm: Algorithm of ParC's depthwise convolutions, see `circular_conv`.
        mean: Per-channel RGB mean to subtract, in [0, 1].
        std: Per-channel RGB standard deviation to divide by.
    """

    def __init__(
        self,
        output_stride: OutputStride = 32,
        parc_layers: tuple[str, ...] = (),
        position_embeddings: bool | tuple[str, ...] = True,
        meta_size: Pixels = 224,
        algorithm: Algorithm = "auto",
        mean: Triple = IMAGENET_MEAN,
        std: tuple[Positive, Positive, Positive] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        network = torchvision.models.mobilenet_v2()
        insert_parc(network, parc_layers, position_embeddings, meta_size, algorithm)
        expansion = network.last_channel
        network.features = network.features[:18]
        del network.classifier
        blocks = [network.features[a:b] for a, b in ((0, 2), (2, 4), (4, 7), (7, 14), (14, 18))]
        samplings = last_stages(output_stride)
        for stage, sampling in zip(blocks[2:], samplings, strict=True):
            dilate(stage, sampling)
        self.network = network
        self.normalize = Normalize(mean, std)
        # A plain list: the layers belong to `network`, under torchvision's names.
        self.stages = [nn.Sequential(self.normalize, *blocks[0]), *blocks[1:]]
        self.levels = (
            Level(2, 16),
            Level(4, 24),
            Level(samplings[0].output_stride, 32),
            Level(samplings[1].output_stride, 96),
            Level(samplings[2].output_stride, 320, expansion=expansion, activation=nn.ReLU6),
        )
        for module in self.modules():
            # Initialized like torchvision's own convolutions.
            if isinstance(module, CircularConv) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                nn.init.zeros_(module.bias)

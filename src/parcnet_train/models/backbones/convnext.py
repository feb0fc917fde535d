"""ConvNeXt: Liu et al., CVPR 2022, arXiv 2201.03545; and ParC-ConvNeXt.

The network is torchvision's, with the width halved as in the released ParC-ConvNeXt-XT (section 4.5
of ParC-Net's paper), which also defines the depthwise convolutions that ParC replaces.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn
from torchvision.models import convnext

from parcnet_train.bounds import Count, Pixels, Positive, Share
from parcnet_train.models.backbones.adapt import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Normalize,
    Triple,
    dilate,
    insert_parc,
)
from parcnet_train.models.base import Backbone, Level, OutputStride, StageSampling, last_stages
from parcnet_train.models.layers.circular import Algorithm
from parcnet_train.models.layers.parc import CircularConv

EPSILON = 1e-6  # epsilon of the layer norms (torchvision's and the released value)


def padded(downsample: nn.Sequential, sampling: StageSampling) -> nn.Sequential:
    """Pad between the norm and the 2x2 convolution if dilation has replaced its stride."""
    if sampling.stride == 2:
        return downsample
    norm, convolution = downsample
    dilation = sampling.dilation_before
    before = dilation // 2
    pad = nn.ZeroPad2d((before, dilation - before, before, dilation - before))
    # The original names keep the state dict compatible.
    return nn.Sequential(OrderedDict([("0", norm), ("pad", pad), ("1", convolution)]))


class ConvNeXt(Backbone):
    """torchvision's ConvNeXt without its classifier.

    Parameters are named `network.` followed by torchvision's name. The layer norm that torchvision
    calls `classifier.0` is part of our classifier head.

    Args:
        channels: Numbers of channels of the stages of stride 4, 8, 16 and 32.
        depths: Numbers of blocks of these stages.
        stochastic_depth: Probability that the last block is skipped for an image in training; it
            decreases linearly towards the first block.
        output_stride: Stride of the last level; values below 32 replace stride by dilation.
        parc_layers: Names or patterns of the depthwise convolutions that ParC replaces, such as
            `features.7.2.block.0`.
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
        channels: tuple[Count, Count, Count, Count],
        depths: tuple[Count, Count, Count, Count],
        stochastic_depth: Share = 0.0,
        output_stride: OutputStride = 32,
        parc_layers: tuple[str, ...] = (),
        position_embeddings: bool | tuple[str, ...] = True,
        meta_size: Pixels = 224,
        algorithm: Algorithm = "auto",
        mean: Triple = IMAGENET_MEAN,
        std: tuple[Positive, Positive, Positive] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        settings = [
            convnext.CNBlockConfig(before, after, depth)
            for before, after, depth in zip(channels, (*channels[1:], None), depths, strict=True)
        ]
        network = convnext.ConvNeXt(settings, stochastic_depth)
        insert_parc(network, parc_layers, position_embeddings, meta_size, algorithm)
        del network.avgpool, network.classifier
        samplings = last_stages(output_stride)
        for place, sampling in zip((2, 4, 6), samplings, strict=True):
            dilate(network.features[place : place + 2], sampling)
            network.features[place] = padded(network.features[place], sampling)
        self.network = network
        self.normalize = Normalize(mean, std)
        # A plain list: the layers belong to `network`, under torchvision's names.
        self.stages = [
            nn.Sequential(self.normalize, *network.features[:2]),
            *(network.features[place : place + 2] for place in (2, 4, 6)),
        ]
        self.levels = (
            Level(4, channels[0]),
            Level(samplings[0].output_stride, channels[1]),
            Level(samplings[1].output_stride, channels[2]),
            Level(samplings[2].output_stride, channels[3], pooled_norm=EPSILON),
        )
        for module in self.modules():
            # Initialized like torchvision's own convolutions.
            if isinstance(module, CircularConv) and module.bias is not None:
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

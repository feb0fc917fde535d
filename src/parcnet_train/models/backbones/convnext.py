"""ConvNeXt: Liu et al., CVPR 2022, arXiv 2201.03545; and ParC-ConvNeXt.

The network is torchvision's, at the half width of the released ParC-ConvNeXt-XT (section 4.5 of
ParC-Net's paper), which says which depthwise convolutions ParC replaces.
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

EPSILON = 1e-6  # of the layer norms (torchvision's and the released value)


def padded(downsample: nn.Sequential, sampling: StageSampling) -> nn.Sequential:
    """Norm and 2x2 convolution with padding between them, where the stride is taken from it."""
    if sampling.stride == 2:
        return downsample
    norm, convolution = downsample
    dilation = sampling.dilation_before
    before = dilation // 2
    pad = nn.ZeroPad2d((before, dilation - before, before, dilation - before))
    # Under the names that the two had.
    return nn.Sequential(OrderedDict([("0", norm), ("pad", pad), ("1", convolution)]))


class ConvNeXt(Backbone):
    """torchvision's ConvNeXt, its classifier left out.

    Parameters are called `network.` and torchvision's name. The layer norm that torchvision calls
    `classifier.0` is a norm that a classifier of ours has.

    Args:
        channels: of the stages of stride 4, 8, 16 and 32.
        depths: their numbers of blocks.
        stochastic_depth: probability that the last block is left out for an image in training;
            those before it less, in proportion.
        output_stride: of the last level; smaller ones replace stride by dilation.
        parc_layers: names or patterns of the depthwise convolutions that ParC replaces, as
            `features.7.2.block.0`.
        position_embeddings: for all of them, none, or the named ones.
        meta_size: pixels, or height and width, of the images whose feature sizes kernels and
            embeddings of ParC have; they are resized for others.
        algorithm: of ParC's depthwise convolutions, see `circular_conv`.
        mean: of the images, that is subtracted: red, green, blue in [0, 1].
        std: that they are divided by.
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
            # As torchvision does with its own convolutions.
            if isinstance(module, CircularConv) and module.bias is not None:
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

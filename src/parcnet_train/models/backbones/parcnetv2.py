"""ParCNetV2: Xu, Zhang, Hu, Zhang, Wang, ICCV 2023, arXiv 2211.07157.

Convolutions with kernels of 2H - 1 and 2W - 1 taps over zero padding, beside local ones, in every
stage; and bifurcate gate units, in which one half of the channels multiplies the other. What the
paper leaves open (kernel sizes, ratios, biases and norms, numbers of blocks and channels of XT)
follows the authors' code, github.com/XuRuihan/ParCNetV2. Its norm divides by the length of the
centered vector, ours by its standard deviation; they differ by a factor that the learned scale can
hold. Neither publishes weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from parcnet_train.bounds import Count, Pixels, Positive, Share
from parcnet_train.models.backbones.adapt import IMAGENET_MEAN, IMAGENET_STD, Normalize, Triple
from parcnet_train.models.base import Backbone, Level, OutputStride, StageSampling, last_stages
from parcnet_train.models.layers.circular import HEIGHT, WIDTH
from parcnet_train.models.layers.parc import OversizedConv
from parcnet_train.models.layers.transformer import drop_branch, increasing

EPSILON = 1e-6  # epsilon of the layer norms (released value)
STD = 0.02  # standard deviation of initial weights (released value)
LOCAL = 7  # kernel size of the local convolution (released value)
SCALED = 2  # number of last stages whose residuals have a learned scale (released value)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel, without bias."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, EPSILON, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        pixels = x.permute(0, 2, 3, 1)
        normed = functional.layer_norm(pixels, self.normalized_shape, self.weight, None, self.eps)
        return normed.permute(0, 3, 1, 2)


class Gate(nn.Module):
    """Bifurcate gate unit (section 3.3 of the paper): half of the channels gates the other half.

    Args:
        channels: Number of channels of the input and the output.
        hidden: Number of channels of both halves together.
        mixer: Layer that the gating half passes after its activation; None: none.
    """

    def __init__(self, channels: int, hidden: int, mixer: nn.Module | None = None) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.act = nn.GELU()
        self.mixer = mixer or nn.Identity()
        self.project = nn.Conv2d(hidden // 2, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        features, gate = self.expand(x).chunk(2, dim=1)
        return self.project(features * self.mixer(self.act(gate)))


class LocalGlobal(nn.Module):
    """Uniform local-global convolution: an oversized pair of convolutions plus a local one.

    Args:
        channels: Number of channels of the input and the output.
        size: Meta height and width of the oversized kernels, in feature pixels.
        dilation: Dilation of the local convolution.
    """

    def __init__(self, channels: int, size: tuple[int, int], dilation: int) -> None:
        super().__init__()
        self.height = OversizedConv(channels, HEIGHT, size[0])
        self.width = OversizedConv(channels, WIDTH, size[1])
        padding = LOCAL // 2 * dilation
        self.local = nn.Conv2d(
            channels, channels, LOCAL, 1, padding, dilation, groups=channels, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        return self.width(self.height(x)) + self.local(x)


class Scale(nn.Module):
    """A learned factor per channel, which starts at 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        return x * self.weight


class Block(nn.Module):
    """Two residual branches with a norm before each: a spatial and a channel gate unit.

    Args:
        channels: Number of channels of the input and the output.
        ratio: Channels of the channel gate unit, both halves, relative to the input.
        size: Meta height and width of the oversized kernels, in feature pixels.
        dilation: Dilation of the local convolution.
        scaled: Whether the residuals have a learned scale per channel.
        drop: Probability that training skips a branch for an image.
    """

    def __init__(
        self,
        channels: int,
        ratio: int,
        size: tuple[int, int],
        dilation: int,
        scaled: bool,
        drop: float,
    ) -> None:
        super().__init__()
        self.spatial_norm, self.channel_norm = ChannelNorm(channels), ChannelNorm(channels)
        self.spatial = Gate(channels, 2 * channels, LocalGlobal(channels, size, dilation))
        self.channel = Gate(channels, channels * ratio // 2 * 2)
        self.spatial_scale, self.channel_scale = (
            Scale(channels) if scaled else nn.Identity() for _ in range(2)
        )
        self.drop = drop_branch(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        x = self.spatial_scale(x) + self.drop(self.spatial(self.spatial_norm(x)))
        return self.channel_scale(x) + self.drop(self.channel(self.channel_norm(x)))


def downsampling(before: int, channels: int, sampling: StageSampling | None) -> Sequence[nn.Module]:
    """Return the layers before the blocks of a stage; without a sampling, the stem."""
    if sampling is None:
        return nn.Conv2d(before, channels, 7, 4, 2), ChannelNorm(channels)
    dilation = sampling.dilation_before
    convolution = nn.Conv2d(before, channels, 3, sampling.stride, dilation, dilation)
    return ChannelNorm(before), convolution


class ParCNetV2(Backbone):
    """ParCNetV2 without its classifier; the norm after its pooling is part of our head.

    Args:
        channels: Numbers of channels of the stages of stride 4, 8, 16 and 32.
        depths: Numbers of blocks of these stages.
        ratio: Channels of the channel gate units, both halves, relative to the stage's.
        stochastic_depth: Probability that training skips the branches of the last block for an
            image; it decreases linearly towards the first block.
        output_stride: Stride of the last level; values below 32 replace stride by dilation.
        meta_size: Image size in pixels (one number, or height and width) whose feature sizes set
            the lengths of the oversized kernels; they are resized for other sizes.
        mean: Per-channel RGB mean to subtract, in [0, 1].
        std: Per-channel RGB standard deviation to divide by.
    """

    def __init__(
        self,
        channels: tuple[Count, Count, Count, Count],
        depths: tuple[Count, Count, Count, Count],
        ratio: Count = 5,
        stochastic_depth: Share = 0.0,
        output_stride: OutputStride = 32,
        meta_size: Pixels = 224,
        mean: Triple = IMAGENET_MEAN,
        std: tuple[Positive, Positive, Positive] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        height, width = (meta_size, meta_size) if isinstance(meta_size, int) else meta_size
        samplings = last_stages(output_stride)
        drops = increasing(stochastic_depth, depths)
        self.stages = nn.ModuleList()
        for number, (before, count) in enumerate(itertools.pairwise((3, *channels))):
            sampling = samplings[number - 1] if number else None
            stride = 4 * 2**number
            blocks = [
                Block(
                    count,
                    ratio,
                    (max(1, height // stride), max(1, width // stride)),
                    sampling.dilation if sampling else 1,
                    number >= len(depths) - SCALED,
                    drop,
                )
                for drop in next(drops)
            ]
            layers = [*downsampling(before, count, sampling), *blocks]
            normalize = [] if number else [Normalize(mean, std)]
            self.stages.append(nn.Sequential(*normalize, *layers))
        self.levels = (
            Level(4, channels[0]),
            Level(samplings[0].output_stride, channels[1]),
            Level(samplings[1].output_stride, channels[2]),
            Level(samplings[2].output_stride, channels[3], pooled_norm=EPSILON),
        )
        self.apply(initialize)


def initialize(module: nn.Module) -> None:
    """Set initial weights as released: truncated normal of 0.02; biases 0."""
    if isinstance(module, (nn.Conv2d, OversizedConv)):
        nn.init.trunc_normal_(module.weight, std=STD)
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)

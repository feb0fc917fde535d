"""MobileViT: Mehta, Rastegari, ICLR 2022, arXiv 2110.02178: the paper's baseline.

Sizes are those of the released configuration of apple/ml-cvnets v0.1. timm has the same network,
with other parameter names and without `levels` of every stride; the tests compare against it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from parcnet_train.bounds import Count, Share
from parcnet_train.models.base import Backbone, Level, OutputStride, last_stages
from parcnet_train.models.layers.blocks import (
    ConvNormAct,
    InvertedResidual,
    initialize,
    local_stages,
    set_stochastic_depth,
)
from parcnet_train.models.layers.dropout import Dropout

PATCH = 2  # pixels; attention runs over the pixels at the same position of every 2x2 patch


def unfold(x: Tensor) -> Tensor:
    """Sort the pixels of `(B, C, H, W)` into `(B * 4, H * W / 4, C)` sequences.

    There is one sequence per position within the 2x2 patch; H and W must be even.
    """
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return x.permute(0, 3, 5, 2, 4, 1).reshape(batch * PATCH**2, -1, channels)


def fold(x: Tensor, height: int, width: int) -> Tensor:
    """Invert `unfold`: `(B * 4, H * W / 4, C)` back to `(B, C, H, W)`."""
    channels = x.shape[-1]
    x = x.reshape(-1, PATCH, PATCH, height // PATCH, width // PATCH, channels)
    return x.permute(0, 5, 3, 1, 4, 2).reshape(-1, channels, height, width)


class SkipImages(StochasticDepth):
    """Stochastic depth of whole images, whose pixels are in several sequences, see `unfold`."""

    def forward(self, input: Tensor) -> Tensor:
        """Map `(B * 4, L, C)` to the same shape."""
        images = input.reshape(len(input) // PATCH**2, -1)
        return super().forward(images).reshape(input.shape)


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer: self-attention, then an MLP with SiLU.

    Args:
        width: Number of channels of the sequence.
        heads: Number of attention heads; must divide the width.
        dropout: Dropout probability after attention and after the MLP.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_project = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )
        self.dropout = Dropout(dropout)
        self.skip: nn.Module = nn.Identity()  # see `set_stochastic_depth`

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, L, C)` to the same shape."""
        number, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).reshape(number, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(1, 2).reshape(number, length, width)
        x = x + self.skip(self.dropout(self.attention_project(mixed)))
        return x + self.skip(self.dropout(self.mlp(x)))


class MobileViTStage(nn.Module):
    """MobileViT block: convolution, transformers over unfolded patches, fusion with the input.

    Args:
        channels: Number of channels of the input and the output.
        width: Number of channels of the transformers.
        depth: Number of transformer layers.
        heads: Number of attention heads.
        dropout: Dropout probability of the transformer layers.
        dilation: Dilation of the 3x3 convolutions.
    """

    def __init__(
        self, channels: int, width: int, depth: int, heads: int, dropout: float, dilation: int
    ) -> None:
        super().__init__()
        self.local = nn.Sequential(
            ConvNormAct(channels, channels, 3, dilation=dilation),
            nn.Conv2d(channels, width, 1, bias=False),
        )
        self.blocks = nn.Sequential(
            *(TransformerLayer(width, heads, dropout) for _ in range(depth)), nn.LayerNorm(width)
        )
        self.project = ConvNormAct(width, channels)
        self.fuse = ConvNormAct(2 * channels, channels, 3, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape; odd sizes are resized to even ones and back."""
        features = self.local(x)
        size = features.shape[2:]
        height, width = (length + length % PATCH for length in size)
        if (height, width) != tuple(size):
            features = functional.interpolate(features, (height, width), mode="bilinear")
        features = fold(self.blocks(unfold(features)), height, width)
        if (height, width) != tuple(size):
            features = functional.interpolate(features, size, mode="bilinear")
        return self.fuse(torch.cat([x, self.project(features)], dim=1))


class MobileViT(Backbone):
    """MobileViT: two convolutional stages, then three with transformers inside.

    Args:
        stem_channels: Numbers of channels of the first convolution and of the stages of stride 2
            and 4.
        channels: Numbers of channels of the stages of stride 8, 16 and 32.
        widths: Numbers of channels of their transformers; each a multiple of `heads`.
        depths: Numbers of transformer layers of these stages.
        expansion: Expansion factor of the inverted residuals (2 in XXS).
        heads: Number of attention heads.
        output_stride: Stride of the last level; values below 32 remove the stride from the last
            stages.
        dilated: Whether the 3x3 convolutions of stages without their stride are dilated; the
            release dilates only the strided convolution of the next stage.
        dropout: Dropout probability after attention and MLP (released value 0.1).
        stochastic_depth: Probability that the last transformer layer is skipped for an image in
            training; that of earlier layers is proportionally smaller (not in MobileViT's paper).

    Raises:
        ValueError: If `heads` does not divide a width.
    """

    def __init__(
        self,
        stem_channels: tuple[Count, Count, Count],
        channels: tuple[Count, Count, Count],
        widths: tuple[Count, Count, Count],
        depths: tuple[Count, Count, Count],
        expansion: Count = 4,
        heads: Count = 4,
        output_stride: OutputStride = 32,
        dilated: bool = False,
        dropout: Share = 0.1,
        stochastic_depth: Share = 0.0,
    ) -> None:
        super().__init__()
        if any(width % heads for width in widths):
            raise ValueError(
                f"backbone.widths={list(widths)}: expected multiples of backbone.heads={heads}"
            )
        self.stages = local_stages(stem_channels, expansion)
        samplings = last_stages(output_stride)
        before = stem_channels[-1]
        for sampling, out, width, depth in zip(samplings, channels, widths, depths, strict=True):
            dilation = sampling.dilation if dilated else 1
            self.stages.append(
                nn.Sequential(
                    InvertedResidual(
                        before, out, sampling.stride, expansion, sampling.dilation_before
                    ),
                    MobileViTStage(out, width, depth, heads, dropout, dilation),
                )
            )
            before = out
        self.levels = (
            Level(2, stem_channels[1]),
            Level(4, stem_channels[2]),
            Level(samplings[0].output_stride, channels[0]),
            Level(samplings[1].output_stride, channels[1]),
            Level(samplings[2].output_stride, channels[2], expansion=4 * channels[2]),
        )
        layers = [each for each in self.modules() if isinstance(each, TransformerLayer)]
        set_stochastic_depth(layers, stochastic_depth, SkipImages)
        self.apply(initialize)

"""Mobile-Former: Chen et al., CVPR 2022, arXiv 2108.05895.

A MobileNet and a transformer of a few tokens in parallel, with attention from each to the other in
every block. Written from the paper; the numbers of blocks, channels and tokens are those of its
tables. The paper leaves these points open, and we decided:

- Dynamic ReLU (arXiv 2003.10027, two slopes and two intercepts, reduction 8) follows the first
  layer of a Mobile sub-block only: after every layer, it would exceed the published 9.4 M
  parameters. The other activations are ReLU.
- The second depthwise convolution of a downsampling block expands the channels by 4, which gives
  the published totals. Such a block has no shortcut; the lite bottleneck has one.
- Both bridges and the Former have 2 heads, the Former's MLP has a GELU, and tokens start from
  N(0, 1).

The paper prints 214 M multiply-adds: those of convolutions and matrix products (211 M), which are
counted here, and those of the batch norms (3 M).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from parcnet_train.bounds import Count, Positive, Share
from parcnet_train.models.backbones.adapt import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NormalizingBackbone,
    Triple,
)
from parcnet_train.models.base import Level, OutputStride, StageSampling, last_stages
from parcnet_train.models.layers.blocks import ConvNormAct, initialize
from parcnet_train.models.layers.dynamic_relu import DynamicReLU
from parcnet_train.models.layers.transformer import attend, mlp, to_map, to_tokens

STRIDE_4 = StageSampling(2, 4, 1, 1)


class Mobile(nn.Module):
    """The Mobile sub-block: an inverted residual whose first activation depends on a token.

    Args:
        in_channels: Number of channels of the input.
        channels: Number of channels of the output.
        expansion: Channels inside relative to the input.
        width: Number of channels of the token.
        dilation: Dilation of the depthwise convolution.
    """

    def __init__(
        self, in_channels: int, channels: int, expansion: int, width: int, dilation: int
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = ConvNormAct(in_channels, hidden, activation=None)
        self.act = DynamicReLU(hidden, width)
        self.rest = nn.Sequential(
            ConvNormAct(hidden, hidden, 3, 1, hidden, dilation, nn.ReLU),
            ConvNormAct(hidden, channels, activation=None),
        )
        self.has_skip = in_channels == channels

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to `(B, channels, H, W)`."""
        y = self.rest(self.act(self.expand(x), token))
        return x + y if self.has_skip else y


class MobileDown(nn.Module):
    """The Mobile sub-block that downsamples: twice a depthwise, then a pointwise convolution.

    Args:
        in_channels: Number of channels of the input.
        channels: Number of channels of the output.
        expansions: Factors by which the two depthwise convolutions expand the channels.
        width: Number of channels of the token.
        sampling: Sampling of the stage.
        dilation: Dilation of the second depthwise convolution.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        expansions: tuple[int, int],
        width: int,
        sampling: StageSampling,
        dilation: int,
    ) -> None:
        super().__init__()
        first, second = in_channels * expansions[0], channels * expansions[1]
        before = sampling.dilation_before
        self.expand = ConvNormAct(
            in_channels, first, 3, sampling.stride, in_channels, before, activation=None
        )
        self.act = DynamicReLU(first, width)
        self.rest = nn.Sequential(
            ConvNormAct(first, channels, activation=None),
            ConvNormAct(channels, second, 3, 1, channels, dilation, nn.ReLU),
            ConvNormAct(second, channels, activation=None),
        )

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to `(B, channels, H / stride, W / stride)`."""
        return self.rest(self.act(self.expand(x), token))


class ToFormer(nn.Module):
    """Mobile to Former (equation 1): tokens attend to pixels, which are not projected.

    Args:
        channels: Number of channels of the map.
        width: Number of channels of the tokens.
        heads: Number of attention heads.
    """

    def __init__(self, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, channels)
        self.project = nn.Linear(channels, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Update tokens `(B, M, width)` from a map `(B, C, H, W)`."""
        pixels = to_tokens(x)
        mixed = attend(self.query(tokens), pixels, pixels, self.heads)
        return self.norm(tokens + self.project(mixed))


class Former(nn.Module):
    """The Former sub-block: a transformer layer with norms after its residuals.

    Args:
        width: Number of channels of the tokens; the MLP is twice as wide.
        heads: Number of attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.mlp = mlp(width, 2 * width)
        self.mlp_norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens `(B, M, width)` to the same shape."""
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        mixed = self.project(attend(query, key, value, self.heads))
        tokens = self.attention_norm(tokens + mixed)
        return self.mlp_norm(tokens + self.mlp(tokens))


class FromFormer(nn.Module):
    """Mobile from Former (equation 2): pixels, which are not projected, attend to tokens.

    Args:
        channels: Number of channels of the map.
        width: Number of channels of the tokens.
        heads: Number of attention heads.
    """

    def __init__(self, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key, self.value = nn.Linear(width, channels), nn.Linear(width, channels)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Update a map `(B, C, H, W)` from tokens `(B, M, width)`."""
        mixed = attend(to_tokens(x), self.key(tokens), self.value(tokens), self.heads)
        return x + to_map(mixed, (x.shape[2], x.shape[3]))


class Block(nn.Module):
    """Mobile-Former block (figure 3 of the paper).

    Args:
        mobile: Mobile sub-block.
        in_channels: Number of channels of the input map.
        channels: Number of channels of the output map.
        width: Number of channels of the tokens.
        heads: Number of attention heads.
    """

    def __init__(
        self, mobile: Mobile | MobileDown, in_channels: int, channels: int, width: int, heads: int
    ) -> None:
        super().__init__()
        self.to_former = ToFormer(in_channels, width, heads)
        self.former = Former(width, heads)
        self.mobile = mobile
        self.from_former = FromFormer(channels, width, heads)

    def forward(self, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(B, in_channels, H, W)` and `(B, M, width)` to the new map and tokens."""
        tokens = self.former(self.to_former(x, tokens))
        return self.from_former(self.mobile(x, tokens[:, 0]), tokens), tokens


class LiteBottleneck(nn.Module):
    """Depthwise convolution that expands the channels, then a pointwise one; with a shortcut.

    Args:
        channels: Number of channels of the input and the output.
        expansion: Channels inside relative to the input.
    """

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.expand = ConvNormAct(channels, hidden, 3, groups=channels, activation=nn.ReLU)
        self.project = ConvNormAct(hidden, channels, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        return x + self.project(self.expand(x))


class Stage(nn.Module):
    """Mobile-Former blocks of one resolution.

    Args:
        blocks: Blocks, of which the first may downsample.
        tokens: Number and channels of the learned tokens that the first of these stages starts
            from; None: the tokens come from the previous stage.
        expansion: Number of channels of the last convolution before the pooling of `head=native`,
            for the last stage; None: none.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        tokens: tuple[int, int] | None = None,
        expansion: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.tokens = None if tokens is None else nn.Parameter(torch.randn(1, *tokens))
        self.blocks = nn.ModuleList(blocks)
        self.expand = ConvNormAct(*expansion, activation=nn.ReLU) if expansion else None

    def forward(self, x: Tensor, tokens: Tensor | None) -> tuple[Tensor, Tensor]:
        """Map a map and tokens to new ones; with an expansion, the map is a vector.

        Args:
            x: Map `(B, C, H, W)`.
            tokens: Tokens `(B, M, width)` of the previous stage.

        Returns:
            Map `(B, C', H', W')`, or `(B, expansion + width)`: averages of the map, and the first
            token; and the tokens.
        """
        if self.tokens is not None:
            tokens = self.tokens.repeat(x.shape[0], 1, 1)
        assert tokens is not None  # for the type checker
        for block in self.blocks:
            x, tokens = block(x, tokens)
        if self.expand is not None:
            x = torch.cat([self.expand(x).mean((2, 3)), tokens[:, 0]], dim=1)
        return x, tokens


class MobileFormer(NormalizingBackbone):
    """Mobile-Former; its levels are the maps at the end of each stage.

    Args:
        stem_channels: Number of channels of the first convolution and of the lite bottleneck.
        channels: Number of output channels of each block of the stages of stride 4, 8, 16 and 32.
        expansions: Channels inside each of these blocks, relative to its input.
        lite_expansion: Channels inside the lite bottleneck relative to its input.
        second_expansion: Factor by which the second depthwise convolution of a downsampling block
            expands its channels.
        tokens: Number of tokens.
        width: Number of channels of a token.
        heads: Number of attention heads; divides every number of channels.
        head_channels: Numbers of channels of the classifier: of the convolution before the pooling,
            and of the layer after the pooled map is concatenated with the first token.
        dropout: Dropout probability before the last layer of the network's own classifier.
        output_stride: Stride of the last level; values below 32 replace stride by dilation.
        mean: Per-channel RGB mean to subtract, in [0, 1].
        std: Per-channel RGB standard deviation to divide by.
        native: Whether the result is the vector that the paper's classifier takes, for
            `head=native`.

    Raises:
        ValueError: If `heads` does not divide a number of channels, or a stage has no block or
            another number of expansions than of blocks.
    """

    brings_classifier: ClassVar[bool] = True
    native_entries: ClassVar[tuple[str, ...]] = ("stages.4.expand.",)

    def __init__(
        self,
        stem_channels: Count,
        channels: tuple[tuple[Count, ...], tuple[Count, ...], tuple[Count, ...], tuple[Count, ...]],
        expansions: tuple[
            tuple[Count, ...], tuple[Count, ...], tuple[Count, ...], tuple[Count, ...]
        ],
        head_channels: tuple[Count, Count],
        lite_expansion: Count = 2,
        second_expansion: Count = 4,
        tokens: Count = 6,
        width: Count = 192,
        heads: Count = 2,
        dropout: Share = 0.2,
        output_stride: OutputStride = 32,
        mean: Triple = IMAGENET_MEAN,
        std: tuple[Positive, Positive, Positive] = IMAGENET_STD,
        native: bool = False,
    ) -> None:
        super().__init__(mean, std)
        if list(map(len, channels)) != list(map(len, expansions)) or not all(channels):
            raise ValueError(
                f"backbone.expansions={[list(each) for each in expansions]}: expected one or more "
                "per stage, as many as in backbone.channels"
            )
        every = [width, stem_channels, *(count for stage in channels for count in stage)]
        if any(count % heads for count in every):
            raise ValueError(
                f"backbone.heads={heads}: expected a divisor of backbone.width={width} and of all "
                f"channels, {', '.join(map(str, dict.fromkeys(every[1:])))}"
            )
        samplings = (STRIDE_4, *last_stages(output_stride))
        self.head_channels, self.dropout = head_channels, dropout
        self.stages = nn.ModuleList(
            [
                nn.Sequential(
                    ConvNormAct(3, stem_channels, 3, 2, activation=nn.ReLU),
                    LiteBottleneck(stem_channels, lite_expansion),
                )
            ]
        )
        before = stem_channels
        for number, (outs, factors, sampling) in enumerate(
            zip(channels, expansions, samplings, strict=True)
        ):
            blocks = []
            for index, (count, factor) in enumerate(zip(outs, factors, strict=True)):
                mobile = (
                    Mobile(before, count, factor, width, sampling.dilation)
                    if index
                    else MobileDown(
                        before,
                        count,
                        (factor, second_expansion),
                        width,
                        sampling,
                        sampling.dilation,
                    )
                )
                blocks.append(Block(mobile, before, count, width, heads))
                before = count
            is_last = number == len(channels) - 1
            self.stages.append(
                Stage(
                    blocks,
                    None if number else (tokens, width),
                    (before, head_channels[0]) if native and is_last else None,
                )
            )
        strides = (2, *(sampling.output_stride for sampling in samplings))
        *dense, last = map(Level, strides, (stem_channels, *(outs[-1] for outs in channels)))
        expanded = Level(last.stride, last.channels, head_channels[0], nn.ReLU)
        vector = Level(last.stride, head_channels[0] + width)
        self.levels = (vector,) if native else (*dense, expanded)
        self.apply(initialize)

    def classifier(self, num_classes: int) -> nn.Module:
        """Make the two linear layers after the pooled map and the first token."""
        layers = nn.Sequential(
            nn.Linear(self.levels[-1].channels, self.head_channels[1]),
            nn.Hardswish(),
            nn.Dropout(self.dropout),
            nn.Linear(self.head_channels[1], num_classes),
        )
        return layers.apply(initialize)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Encode normalized images; tokens go from stage to stage beside the map."""
        stem, *stages = self.stages
        maps, tokens = [stem(images)], None
        for stage in stages:
            x, tokens = stage(maps[-1], tokens)
            maps.append(x)
        return maps[-len(self.levels) :]

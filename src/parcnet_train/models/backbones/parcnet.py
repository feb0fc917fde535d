"""ParC-Net: Zhang, Hu, Wang, ECCV 2022, arXiv 2203.03952.

Sizes are those of the paper (S) and of the authors' released configuration (XS, H); their
implementation calls the model EdgeFormer. Details that the paper leaves open follow the released
network, and `docs/fidelity.md` lists the differences between the two. Unlike in the released
network, height and width are handled separately, so feature maps need not be square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from parcnet_train.bounds import Count, Odd, PositiveShare, Share
from parcnet_train.models.base import Backbone, Level, OutputStride, last_stages
from parcnet_train.models.layers.blocks import (
    ConvNormAct,
    InvertedResidual,
    initialize,
    local_stages,
    set_stochastic_depth,
)
from parcnet_train.models.layers.circular import HEIGHT, WIDTH, Algorithm, layout_of
from parcnet_train.models.layers.dropout import Dropout
from parcnet_train.models.layers.parc import (
    CircularConv,
    OversizedConv,
    PositionEmbedding,
    Resize,
    along,
)

REDUCTION = 16  # channel reduction of the channel attention (released value)


@dataclass(frozen=True)
class Design:
    """The design choices of a block: the switches of the paper's Table 2, see `ParCNet`."""

    mixer: Literal["parc", "big_kernel", "oversized"]
    kernel_share: float
    meta_former: bool
    channel_attention: bool
    position_embedding: bool
    kernel_resize: Resize
    algorithm: Algorithm
    dropout: float

    def convolution(self, channels: int, axis: int, length: int) -> nn.Module:
        """Return a depthwise convolution along one axis: the one that `mixer` names."""
        if self.mixer == "parc":
            return CircularConv(
                channels, axis, length, self.kernel_resize, algorithm=self.algorithm
            )
        if self.mixer == "oversized":
            return OversizedConv(channels, axis, length, self.kernel_resize)
        # Rounded up to an odd size: 17, 9, 5 for 1/2 and 9, 5, 3 for 1/4 (released values).
        size = round(length * self.kernel_share) // 2 * 2 + 1
        return nn.Conv2d(
            channels, channels, along(axis, size), padding="same", groups=channels, bias=False
        )

    def embeds(self, index: int) -> bool:
        """Return whether the block with this index in its stage has position embeddings."""
        if self.mixer != "parc" or not self.position_embedding:
            return False
        # In the release, only the first block has them. Row 4 of Table 2, which was never released,
        # follows the paper: every ParC has them.
        return index == 0 or not self.meta_former


class Axes(nn.Module):
    """One half of a token mixer: a convolution along one axis, then one along the other.

    Args:
        channels: Number of channels of the input and the output.
        axes: First and second axis.
        length: Meta length of kernels and embeddings, in feature pixels.
        design: Design of the block.
        embeds: Whether both convolutions have a position embedding before them.
        normalizes: Whether the first convolution has a norm before it.
    """

    def __init__(
        self,
        channels: int,
        axes: tuple[int, int],
        length: int,
        design: Design,
        embeds: bool,
        normalizes: bool,
    ) -> None:
        super().__init__()
        self.first_embedding, self.second_embedding = (
            PositionEmbedding(channels, axis, length, design.kernel_resize)
            if embeds
            else nn.Identity()
            for axis in axes
        )
        self.norm = nn.BatchNorm2d(channels) if normalizes else nn.Identity()
        self.first, self.second = (design.convolution(channels, axis, length) for axis in axes)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        x = self.first_embedding(x)  # before the norm, as in the release
        is_real = isinstance(x, Tensor)  # torch.fx traces the network without tensors
        if not torch.jit.is_scripting() and self.training and is_real:  # type: ignore[attr-defined]
            # A part of a map would take the slow path of BatchNorm on CPUs (docs/benchmarks.md).
            x = x.contiguous(memory_format=layout_of(x))
        x = self.first(self.norm(x))
        return self.second(self.second_embedding(x))


class Mixer(nn.Module):
    """Token mixer: half of the channels along height, then width; the others in reverse order."""

    def __init__(
        self, channels: int, length: int, design: Design, embeds: bool, normalizes: bool = True
    ) -> None:
        super().__init__()
        self.height_first, self.width_first = (
            Axes(channels // 2, axes, length, design, embeds, normalizes)
            for axes in ((HEIGHT, WIDTH), (WIDTH, HEIGHT))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape; the caller adds the residual."""
        first, second = x.chunk(2, dim=1)
        return torch.cat([self.height_first(first), self.width_first(second)], dim=1)


class ChannelAttention(nn.Module):
    """Squeeze and excitation: a factor per channel, computed from the average of all pixels.

    Args:
        channels: Number of channels of the input and the output.
        hidden: Number of channels between squeeze and excitation.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = ConvNormAct(channels, hidden, activation=nn.Hardswish)
        self.excite = ConvNormAct(hidden, channels, activation=nn.Hardsigmoid)

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel of `(B, C, H, W)` by a factor in [0, 1]."""
        return x * self.excite(self.squeeze(x.mean((2, 3), keepdim=True)))


class MetaFormerBlock(nn.Module):
    """Block of the paper's figure 1c: one residual mixes positions, the next one mixes channels.

    Args:
        channels: Number of channels of the input and the output; the MLP is twice as wide.
        length: Meta length of kernels and embeddings, in feature pixels.
        design: Design of the block, see `ParCNet`.
        embeds: Whether the mixer has position embeddings.
    """

    def __init__(self, channels: int, length: int, design: Design, embeds: bool) -> None:
        super().__init__()
        self.mixer = Mixer(channels, length, design, embeds)
        self.mlp = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, 2 * channels, 1),
            nn.Hardswish(),
            nn.Conv2d(2 * channels, channels, 1),
            Dropout(design.dropout),
        )
        self.attention = (
            ChannelAttention(channels, channels // REDUCTION)
            if design.channel_attention
            else nn.Identity()
        )
        self.skip: nn.Module = nn.Identity()  # see `set_stochastic_depth`

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        x = x + self.skip(self.mixer(x))
        return x + self.skip(self.attention(self.mlp(x)))


class ResNeXtBlock(nn.Module):
    """ResNeXt block with ParC, for row 4 of Table 2; our design, since none was published.

    It is ResNeXt's block (arXiv 1611.05431, figure 3c) with the token mixer in place of the grouped
    3x3 convolution: 1x1 convolution, mixer, 1x1 convolution, one residual around all three. It is
    twice as wide inside, like the MLP that it replaces, and the attention has that width (as in
    RegNetY, arXiv 2003.13678). Norms and activations are where ResNeXt has them.

    The arguments are those of `MetaFormerBlock`.
    """

    def __init__(self, channels: int, length: int, design: Design, embeds: bool) -> None:
        super().__init__()
        width = 2 * channels
        self.expand = ConvNormAct(channels, width, activation=nn.Hardswish)
        self.mixer = Mixer(width, length, design, embeds, normalizes=False)
        self.norm = nn.BatchNorm2d(width)
        self.attention = (
            ChannelAttention(width, channels // REDUCTION)
            if design.channel_attention
            else nn.Identity()
        )
        self.project = ConvNormAct(width, channels, activation=None)
        self.act = nn.Hardswish()
        self.dropout = Dropout(design.dropout)
        self.skip: nn.Module = nn.Identity()  # see `set_stochastic_depth`

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        y = self.act(self.norm(self.mixer(self.expand(x))))
        return self.act(x + self.skip(self.dropout(self.project(self.attention(y)))))


class ParCStage(nn.Module):
    """The bifurcate frame of figure 4c: blocks beside a shortcut, then fused with it.

    Args:
        channels: Number of channels of the input and the output.
        width: Number of channels inside the blocks.
        depth: Number of blocks.
        length: Meta length of their kernels and embeddings, in feature pixels.
        fusion: Method to merge shortcut and global features before the last convolution.
        dilation: Dilation of the 3x3 convolutions.
        design: Design of the blocks.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        depth: int,
        length: int,
        fusion: Literal["concat", "add"],
        dilation: int,
        design: Design,
    ) -> None:
        super().__init__()
        groups = math.gcd(width, channels)
        self.local = nn.Sequential(
            ConvNormAct(channels, width, 3, groups=groups, dilation=dilation),
            nn.Conv2d(width, width, 1, bias=False),
        )
        block = MetaFormerBlock if design.meta_former else ResNeXtBlock
        self.blocks = nn.Sequential(
            *(block(width, length, design, design.embeds(index)) for index in range(depth)),
            nn.BatchNorm2d(width),
        )
        self.project = ConvNormAct(width, channels, groups=groups)
        self.fusion = fusion
        fused = 2 * channels if fusion == "concat" else channels
        self.fuse = ConvNormAct(fused, channels, 3, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        features = self.project(self.blocks(self.local(x)))
        return self.fuse(
            torch.cat([features, x], dim=1) if self.fusion == "concat" else features + x
        )


class ParCNet(Backbone):
    """ParC-Net: two convolutional stages, then three stages of ParC blocks.

    Args:
        stem_channels: Numbers of channels of the first convolution and of the stages of stride 2
            and 4.
        channels: Numbers of channels of the stages of stride 8, 16 and 32.
        widths: Numbers of channels inside their blocks.
        depths: Numbers of blocks of these stages.
        stem_kernel: Kernel size of the first convolution, in pixels along both axes.
        meta_lengths: Lengths of kernels and embeddings: the feature sizes of a 256 pixel image.
        fusion: Method to merge shortcut and features: `concat` (S, H) or `add` (XS).
        mixer: Token mixer: `parc`; `big_kernel`, ordinary convolutions without position
            embeddings, otherwise the same (Table 2, BK); or `oversized`, the operator of ParCNetV2
            (arXiv 2211.07157), also without position embeddings.
        kernel_share: Size of a big kernel as a share of its meta length: 0.25 or 0.5 in the paper.
        meta_former: Whether blocks are MetaFormer blocks, rather than ResNeXt blocks (Table 2, MF).
        channel_attention: Whether blocks have channel attention (Table 2, CA).
        position_embedding: Whether ParC has position embeddings (Table 2, PE).
        kernel_resize: Method to fit kernels and embeddings to maps of other sizes, see
            `fit_length`.
        algorithm: Algorithm of the circular convolutions, see `circular_conv`.
        output_stride: Stride of the last level; values below 32 remove the stride from the last
            stages.
        dilated: Whether the 3x3 convolutions of stages without their stride are dilated; the
            release dilates only the strided convolution of the next stage.
        dropout: Dropout probability at the end of each block (released value 0.1).
        stochastic_depth: Probability that the last ParC block is skipped for an image in training;
            that of earlier blocks is proportionally smaller (not in the paper).

    Raises:
        ValueError: If a width is odd, since its halves go along different axes, or too small for
            the channel attention, or if a number is out of its range.
    """

    def __init__(
        self,
        stem_channels: tuple[Count, Count, Count],
        channels: tuple[Count, Count, Count],
        widths: tuple[Count, Count, Count],
        depths: tuple[Count, Count, Count],
        stem_kernel: Odd = 3,
        meta_lengths: tuple[Count, Count, Count] = (32, 16, 8),
        fusion: Literal["concat", "add"] = "concat",
        mixer: Literal["parc", "big_kernel", "oversized"] = "parc",
        kernel_share: PositiveShare = 0.5,
        meta_former: bool = True,
        channel_attention: bool = True,
        position_embedding: bool = True,
        kernel_resize: Resize = "interpolate",
        algorithm: Algorithm = "auto",
        output_stride: OutputStride = 32,
        dilated: bool = False,
        dropout: Share = 0.1,
        stochastic_depth: Share = 0.0,
    ) -> None:
        super().__init__()
        if any(width % 2 or width < REDUCTION for width in widths):
            raise ValueError(
                f"backbone.widths={list(widths)}: expected even numbers of at least {REDUCTION}"
            )
        if not 0 < kernel_share <= 1:
            raise ValueError(
                f"backbone.kernel_share={kernel_share}: expected a share above 0 and up to 1"
            )
        if stem_kernel % 2 == 0:
            raise ValueError(f"backbone.stem_kernel={stem_kernel}: expected an odd number")
        design = Design(
            mixer,
            kernel_share,
            meta_former,
            channel_attention,
            position_embedding,
            kernel_resize,
            algorithm,
            dropout,
        )
        self.stages = local_stages(stem_channels, expansion=4, stem_kernel=stem_kernel)
        samplings = last_stages(output_stride)
        before = stem_channels[-1]
        for sampling, out, width, depth, length in zip(
            samplings, channels, widths, depths, meta_lengths, strict=True
        ):
            dilation = sampling.dilation if dilated else 1
            self.stages.append(
                nn.Sequential(
                    InvertedResidual(
                        before, out, sampling.stride, dilation=sampling.dilation_before
                    ),
                    ParCStage(out, width, depth, length, fusion, dilation, design),
                )
            )
            before = out
        self.levels = (
            Level(2, stem_channels[1]),
            Level(4, stem_channels[2]),
            Level(samplings[0].output_stride, channels[0]),
            Level(samplings[1].output_stride, channels[1]),
            Level(samplings[2].output_stride, channels[2], expansion=min(4 * channels[2], 960)),
        )
        blocks = [
            each for each in self.modules() if isinstance(each, MetaFormerBlock | ResNeXtBlock)
        ]
        set_stochastic_depth(blocks, stochastic_depth)
        self.apply(initialize)

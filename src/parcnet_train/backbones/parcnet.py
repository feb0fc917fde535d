"""ParC-Net: Zhang, Hu, Wang, ECCV 2022, arXiv 2203.03952.

Sizes are those of the paper (S) and of the authors' released configuration (XS); their
implementation calls the model EdgeFormer. What the paper leaves open follows the released
network, and `docs/fidelity.md` lists where the two disagree. Unlike the released network, height
and width are handled apart, so feature maps need not be square.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from parcnet_train.blocks import ConvNormAct, InvertedResidual, initialize, local_stages
from parcnet_train.circular import HEIGHT, WIDTH, circular_conv
from parcnet_train.features import Backbone, Level

REDUCTION = 16  # of the channel attention (released value)


def resize_along(parameter: Tensor, axis: int, length: int) -> Tensor:
    """Fits a meta kernel or position embedding to a feature map: F of equations 1 and 2.

    Bilinear with aligned corners (released value), values not rescaled.

    Args:
        parameter: `(A, B, K, 1)` for axis 2 (height) or `(A, B, 1, K)` for axis 3 (width).
        axis: 2 or 3.
        length: feature pixels along that axis.
    """
    if parameter.shape[axis] == length:
        return parameter
    size = (length, 1) if axis == HEIGHT else (1, length)
    return functional.interpolate(parameter, size, mode="bilinear", align_corners=True)


class ParC(nn.Module):
    """Position-aware circular convolution along one axis (section 3.1).

    Args:
        channels: of the input and the output.
        axis: 2 (height, ParC-V) or 3 (width, ParC-H).
        length: size of the meta kernel and embedding, in feature pixels.
        position_embedding: whether an embedding is added in front of the convolution.
    """

    def __init__(
        self, channels: int, axis: int, length: int, position_embedding: bool = True
    ) -> None:
        super().__init__()
        self.axis = axis
        shape = (length, 1) if axis == HEIGHT else (1, length)
        # Released values: torch's default for a depthwise convolution, and N(0, 1).
        bound = 1 / math.sqrt(length)
        self.kernel = nn.Parameter(torch.empty(channels, 1, *shape).uniform_(-bound, bound))
        self.embedding = (
            nn.Parameter(torch.randn(1, channels, *shape)) if position_embedding else None
        )

    def embed(self, x: Tensor) -> Tensor:
        """Adds the position embedding, where there is one, to `(B, C, H, W)`."""
        if self.embedding is None:
            return x
        return x + resize_along(self.embedding, self.axis, x.shape[self.axis])

    def convolve(self, x: Tensor) -> Tensor:
        """Circular convolution of `(B, C, H, W)` with the kernel fitted to its size."""
        return circular_conv(x, resize_along(self.kernel, self.axis, x.shape[self.axis]), self.axis)


class ParCMixer(nn.Module):
    """Token mixer: half of the channels goes along height then width, half the other way round."""

    def __init__(self, channels: int, length: int, position_embedding: bool) -> None:
        super().__init__()
        half = channels // 2
        self.norms = nn.ModuleList([nn.BatchNorm2d(half), nn.BatchNorm2d(half)])
        self.first = nn.ModuleList(
            [ParC(half, axis, length, position_embedding) for axis in (HEIGHT, WIDTH)]
        )
        self.second = nn.ModuleList(
            [ParC(half, axis, length, position_embedding) for axis in (WIDTH, HEIGHT)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, C, H, W)` to the same shape; the caller adds the residual."""
        halves = []
        for part, norm, first, second in zip(
            x.chunk(2, dim=1), self.norms, self.first, self.second, strict=True
        ):
            # Released order: the first embedding stands in front of the norm.
            part = first.convolve(norm(first.embed(part)))  # type: ignore[operator]
            halves.append(second.convolve(second.embed(part)))  # type: ignore[operator]
        return torch.cat(halves, dim=1)


class ChannelAttention(nn.Module):
    """Squeeze and excitation of the channel mixer's output."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // REDUCTION
        self.squeeze = ConvNormAct(channels, hidden, activation=nn.Hardswish)
        self.excite = ConvNormAct(hidden, channels, activation=nn.Hardsigmoid)

    def forward(self, x: Tensor) -> Tensor:
        """Scales each channel of `(B, C, H, W)` by a factor in [0, 1]."""
        return x * self.excite(self.squeeze(x.mean((2, 3), keepdim=True)))


class ParCBlock(nn.Module):
    """Meta-former block of the paper's figure 1c: ParC mixes positions, an MLP mixes channels.

    Args:
        channels: of the input and the output; the MLP is twice as wide.
        length: size of the meta kernels, in feature pixels.
        position_embedding: whether the four ParCs have one.
        dropout: probability behind the MLP.
    """

    def __init__(
        self, channels: int, length: int, position_embedding: bool, dropout: float
    ) -> None:
        super().__init__()
        self.mixer = ParCMixer(channels, length, position_embedding)
        self.mlp = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, 2 * channels, 1),
            nn.Hardswish(),
            nn.Conv2d(2 * channels, channels, 1),
            nn.Dropout(dropout),
        )
        self.attention = ChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, C, H, W)` to the same shape."""
        x = x + self.mixer(x)
        return x + self.attention(self.mlp(x))


class ParCStage(nn.Module):
    """The bifurcate frame of figure 4c: ParC blocks beside a shortcut, then fused with it.

    Args:
        channels: of the input and the output.
        width: channels inside the ParC blocks.
        depth: number of ParC blocks; the first one alone has position embeddings (released).
        length: size of the meta kernels, in feature pixels.
        fusion: how shortcut and global features meet in front of the last convolution.
        dropout: probability behind the blocks' MLPs.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        depth: int,
        length: int,
        fusion: Literal["concat", "add"],
        dropout: float,
    ) -> None:
        super().__init__()
        groups = math.gcd(width, channels)
        self.local = nn.Sequential(
            ConvNormAct(channels, width, 3, groups=groups), nn.Conv2d(width, width, 1, bias=False)
        )
        self.blocks = nn.Sequential(
            *(ParCBlock(width, length, index == 0, dropout) for index in range(depth)),
            nn.BatchNorm2d(width),
        )
        self.project = ConvNormAct(width, channels, groups=groups)
        self.fusion = fusion
        self.fuse = ConvNormAct(2 * channels if fusion == "concat" else channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, C, H, W)` to the same shape."""
        features = self.project(self.blocks(self.local(x)))
        return self.fuse(
            torch.cat([features, x], dim=1) if self.fusion == "concat" else features + x
        )


class ParCNet(Backbone):
    """ParC-Net: two convolutional stages, then three stages of ParC blocks.

    Args:
        stem_channels: channels of the first convolution and of the stages of stride 2 and 4.
        channels: channels of the stages of stride 8, 16 and 32.
        widths: channels inside their ParC blocks.
        depths: their numbers of ParC blocks.
        fusion: `concat` (S) or `add` (XS).
        meta_lengths: sizes of the meta kernels: the feature sizes of a 256 pixel image.
        dropout: probability behind each block's MLP (released value 0.1).

    Raises:
        ValueError: where a width is odd, since its halves go along different axes, or so small
            that the channel attention has nothing left.
    """

    def __init__(
        self,
        stem_channels: tuple[int, int, int],
        channels: tuple[int, int, int],
        widths: tuple[int, int, int],
        depths: tuple[int, int, int],
        fusion: Literal["concat", "add"] = "concat",
        meta_lengths: tuple[int, int, int] = (32, 16, 8),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if any(width % 2 or width < REDUCTION for width in widths):
            raise ValueError(
                f"backbone.widths={list(widths)}: each must be even and at least {REDUCTION}"
            )
        self.stages = local_stages(stem_channels, expansion=4)
        before = stem_channels[-1]
        for out, width, depth, length in zip(channels, widths, depths, meta_lengths, strict=True):
            self.stages.append(
                nn.Sequential(
                    InvertedResidual(before, out, stride=2),
                    ParCStage(out, width, depth, length, fusion, dropout),
                )
            )
            before = out
        self.levels = (
            Level(2, stem_channels[1]),
            Level(4, stem_channels[2]),
            Level(8, channels[0]),
            Level(16, channels[1]),
            Level(32, channels[2], expansion=min(4 * channels[2], 960)),
        )
        self.apply(initialize)

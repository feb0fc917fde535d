"""Parts of a baked network that replace ParC for one feature map size.

All of them are convolutions with zero padding. Runtimes that store channels in blocks of 8 or 16
can then keep that layout; slices and concatenations along the width would force them to change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parcnet_train.deploy.bake.folding import Affine, affine_of, fold_norm_after, fold_norm_before
from parcnet_train.models.backbones.parcnet import ChannelAttention, MetaFormerBlock
from parcnet_train.models.layers.circular import HEIGHT, WIDTH
from parcnet_train.sizes import Size

WRAPPED_WIDTH = 24  # from this width on wrapping is faster; measured in docs/benchmarks.md


def along_height(kernel: Tensor, bias: Tensor | None, groups: int) -> nn.Conv2d:
    """Return a circular convolution along the height, as long as the map.

    Args:
        kernel: Kernel `(C, C / groups, H, 1)`, see `circular_conv`.
        bias: Bias `(C,)`, or None.
        groups: Number of channel groups.
    """
    before = kernel.shape[HEIGHT] - 1
    return convolution(periodic(kernel, HEIGHT), bias, groups, (before, 0))


def along_width(kernel: Tensor, bias: Tensor | None, groups: int) -> nn.Conv2d:
    """Return a circular convolution along the width, for a kernel `(C, C / groups, 1, W)`."""
    before = kernel.shape[WIDTH] - 1
    return convolution(periodic(kernel, WIDTH), bias, groups, (0, before))


def periodic(kernel: Tensor, axis: int) -> Tensor:
    """Extend a circular kernel of L taps to one of 2L - 1 taps for zero padding.

    All taps but one occur twice, L positions apart: at every position exactly one of the two meets
    a pixel, the other one a zero.
    """
    return torch.cat([kernel.narrow(axis, 1, kernel.shape[axis] - 1), kernel], dim=axis)


def along_wrapped_width(kernel: Tensor) -> nn.Module:
    """Return a depthwise `along_width` that first wraps maps wide enough for this to be faster."""
    channels, width = kernel.shape[0], kernel.shape[WIDTH]
    if width < WRAPPED_WIDTH:
        return along_width(kernel, None, channels)
    last = kernel.new_zeros(channels, 1, 1, 1)  # twice the width is one pixel too many
    return nn.Sequential(
        wrapping(channels, width, kernel.dtype),
        convolution(torch.cat([kernel, last], dim=WIDTH), None, channels),
    )


def wrapping(channels: int, width: int, dtype: torch.dtype) -> nn.Conv2d:
    """Return a convolution that repeats a map: `(B, C, H, W)` to `(B, C, H, 2 * W)`."""
    ones = torch.ones(channels, 1, 1, 2, dtype=dtype)
    return convolution(ones, None, channels, (0, width), dilation=width)


def convolution(
    weight: Tensor,
    bias: Tensor | None,
    groups: int,
    padding: tuple[int, int] = (0, 0),
    dilation: int = 1,
) -> nn.Conv2d:
    """Return a convolution with the given weights."""
    height, width = weight.shape[2:]
    layer = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        (height, width),
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias is not None,
        device="meta",
    )
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


class FixedMixer(nn.Module):
    """Mixer of a baked network: all channels along the width, then the height, plus a constant.

    Args:
        along_width: Convolution along the width, the first one.
        along_height: Convolution along the height, the second one.
        constant: Map `(1, C, H, W)` that the position embeddings add, or None.
        size: Height and width of the maps, in pixels.
    """

    constant: Tensor | None

    def __init__(
        self, along_width: nn.Module, along_height: nn.Module, constant: Tensor | None, size: Size
    ) -> None:
        super().__init__()
        self.along_width, self.along_height, self.size = along_width, along_height, size
        self.register_buffer("constant", constant)
        self.has_skip = False  # whether the input is added to the output

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        y = self.along_height(self.along_width(x))
        # Directly after the convolution, so that runtimes fuse the addition into it.
        y = x + y if self.has_skip else y
        return y if self.constant is None else y + self.constant

    def fold_norm_after(self, affine: Affine) -> None:
        """Fold a norm that follows this layer into it."""
        assert isinstance(self.along_height, nn.Conv2d)  # `with_products` comes after folding
        fold_with_constant([self.along_height], self.constant, affine)


class FixedHalves(nn.Module):
    """Baked plug-in with dense kernels: half of the channels along each axis.

    Args:
        along_height: Convolution of the first half, along the height.
        along_width: Convolution of the second half, along the width.
        constant: Map `(1, C, H, W)` that the position embeddings add, or None.
    """

    constant: Tensor | None

    def __init__(
        self, along_height: nn.Conv2d, along_width: nn.Conv2d, constant: Tensor | None
    ) -> None:
        super().__init__()
        self.along_height, self.along_width = along_height, along_width
        self.register_buffer("constant", constant)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        half = self.along_height.in_channels
        parts = [self.along_height(x[:, :half]), self.along_width(x[:, half:])]
        y = torch.cat(parts, dim=1)
        return y if self.constant is None else y + self.constant

    def fold_norm_after(self, affine: Affine) -> None:
        """Fold a norm that follows this layer into it."""
        fold_with_constant([self.along_height, self.along_width], self.constant, affine)


def fold_with_constant(
    layers: Sequence[nn.Conv2d], constant: Tensor | None, affine: Affine
) -> None:
    """Fold a norm into parallel convolutions and into the constant map that follows them."""
    scale, shift = affine
    shares = zip(layers, scale.chunk(len(layers)), shift.chunk(len(layers)), strict=True)
    for layer, of_scale, of_shift in shares:
        fold_norm_after(layer, (of_scale, of_shift))
    if constant is not None:
        constant.copy_(constant * scale.view(-1, 1, 1))


class FixedAttention(nn.Module):
    """`ChannelAttention` with a pooling layer that runtimes recognize as one."""

    def __init__(self, attention: ChannelAttention) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze, self.excite = attention.squeeze, attention.excite

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel of `(B, C, H, W)` by a factor in [0, 1]."""
        return x * self.excite(self.squeeze(self.pool(x)))


class FixedBlock(nn.Module):
    """`MetaFormerBlock` without norms; its `FixedMixer` computes the first residual itself."""

    def __init__(self, block: MetaFormerBlock) -> None:
        super().__init__()
        mixer: Any = block.mixer
        mixer.has_skip = True
        self.mixer = mixer
        norm, expand, act, project, _ = block.mlp
        assert isinstance(expand, nn.Conv2d)  # for the type checker
        fold_norm_before(expand, affine_of(norm))
        self.mlp = nn.Sequential(expand, act, project)
        self.attention = (
            FixedAttention(block.attention)
            if isinstance(block.attention, ChannelAttention)
            else block.attention
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        x = self.mixer(x)
        return x + self.attention(self.mlp(x))


class Repeat(nn.Module):
    """Repetition of all channels of a map."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, times * C, H, W)`."""
        return torch.cat([x] * self.times, dim=1)


def spread(first: nn.Conv2d, act: nn.Module, second: nn.Conv2d) -> nn.Sequential:
    """Make the first of two convolutions depthwise by repeating its input channels.

    The first convolution computes several output channels from each input channel. The repeated
    channels have another order, so the input channels of the second, dense convolution are
    reordered, too.
    """
    times = first.out_channels // first.groups
    order = torch.arange(first.out_channels).view(-1, times).T.flatten()
    assert first.bias is not None  # folding a norm has added it
    depthwise = convolution(
        first.weight.detach()[order],
        first.bias.detach()[order],
        first.out_channels,
        (int(first.padding[0]), int(first.padding[1])),
        dilation=first.dilation[0],
    )
    second.weight = nn.Parameter(second.weight.detach()[:, order], requires_grad=False)
    return nn.Sequential(Repeat(times), depthwise, act, second)

"""ParC, position-aware circular convolution (section 3.1 of the ParC-Net paper), as modules.

Kernels and position embeddings are stored at a meta length, the feature size of the training
images, and fitted to each feature map, separately for height and width. The arithmetic is in
`models/layers/circular.py`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from parcnet_train.models.layers.circular import (
    HEIGHT,
    WIDTH,
    Algorithm,
    circular_by_convolution,
    circular_conv,
)

Resize = Literal["interpolate", "crop"]


def along(axis: int, length: int) -> tuple[int, int]:
    """Return the height and width of a kernel that lies along one axis."""
    return (length, 1) if axis == HEIGHT else (1, length)


def fit_length(parameter: Tensor, axis: int, length: int, resize: str) -> Tensor:
    """Fit a meta kernel or position embedding to a feature map: F of equations 1 and 2.

    TorchScript compiles this function, so `resize` cannot be annotated with `Resize`.

    Args:
        parameter: Weights `(A, B, K, 1)` for axis 2 (height) or `(A, B, 1, K)` for axis 3 (width).
        axis: Axis of the weights: 2 or 3.
        length: Number of feature pixels along that axis.
        resize: Method: `interpolate` bilinearly with aligned corners, values not rescaled (released
            value), or `crop` to the first taps.

    Raises:
        ValueError: If `crop` is asked for more taps than the parameter has.
    """
    meta_length = parameter.shape[axis]
    if meta_length == length:
        return parameter
    if resize == "crop":
        if meta_length < length:
            raise ValueError(too_long(length, meta_length))
        return parameter.narrow(axis, 0, length)
    size = [length, 1] if axis == 2 else [1, length]  # TorchScript knows no global numbers
    if parameter.device.type == "meta":
        # Only the shape matters here, and torch takes 10 ms to find it.
        return parameter.new_empty(list(parameter.shape[:2]) + size)
    return functional.interpolate(parameter, size, mode="bilinear", align_corners=True)


def too_long(length: int, meta_length: int) -> str:
    """Return the message about a feature map for which cropped kernels are too short."""
    return (
        f"backbone.kernel_resize=crop: a feature map of {length} pixels is longer than the "
        f"meta kernel of {meta_length}. Fix: use smaller images, or "
        "backbone.kernel_resize=interpolate"
    )


class PositionEmbedding(nn.Module):
    """One value per channel and position along an axis, added to the map (equations 1 and 2).

    Args:
        channels: Number of channels of the map.
        axis: Axis: 2 (height) or 3 (width).
        length: Meta length, in feature pixels.
        resize: Method to fit other lengths, see `fit_length`.
        std: Standard deviation of the normal distribution of the initial values; 1 in ParC-Net,
            0.02 in its plug-ins (released values).
    """

    def __init__(
        self, channels: int, axis: int, length: int, resize: Resize = "interpolate", std: float = 1
    ) -> None:
        super().__init__()
        self.axis = axis
        self.resize: Resize = resize
        self.weight = nn.Parameter(std * torch.randn(1, channels, *along(axis, length)))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        return x + fit_length(self.weight, self.axis, x.shape[self.axis], self.resize)

    def extra_repr(self) -> str:
        """Return the shape of the embedding."""
        return f"{tuple(self.weight.shape)}"


class CircularConv(nn.Module):
    """Circular convolution along one axis, with kernels as long as the feature map.

    Args:
        channels: Number of channels of the input and the output.
        axis: Axis: 2 (height, the paper's ParC-V) or 3 (width, ParC-H).
        length: Meta length of the kernel, in feature pixels.
        resize: Method to fit other lengths, see `fit_length`.
        groups: Number of groups; None: as many as channels (depthwise).
        bias: Whether a bias per channel is added.
        algorithm: Algorithm of the convolution, see `circular_conv`.
    """

    def __init__(
        self,
        channels: int,
        axis: int,
        length: int,
        resize: Resize = "interpolate",
        groups: int | None = None,
        bias: bool = False,
        algorithm: Algorithm = "auto",
    ) -> None:
        super().__init__()
        self.axis = axis
        self.resize: Resize = resize
        self.algorithm: Algorithm = algorithm
        self.groups = groups or channels
        inputs = channels // self.groups
        # torch's default for convolutions, also in the release: U(+-1 / sqrt(fan in)).
        bound = 1 / math.sqrt(inputs * length)
        shape = (channels, inputs, *along(axis, length))
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        kernel = fit_length(self.weight, self.axis, x.shape[self.axis], self.resize)
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            return circular_conv(x, kernel, self.axis, self.bias, self.groups, self.algorithm)
        return circular_by_convolution(x, kernel, self.axis, self.bias, self.groups)

    def extra_repr(self) -> str:
        """Return the shape of the kernel, the groups and the algorithm."""
        return f"{tuple(self.weight.shape)}, groups={self.groups}, algorithm={self.algorithm}"


class OversizedConv(nn.Module):
    """Depthwise convolution along one axis whose kernel is about twice as long as the map.

    It is the operator of ParCNetV2 (arXiv 2211.07157, section 3.2): `y[i] = sum over j of
    kernel[j - i + length - 1] * x[j]`, a kernel of 2 * length - 1 taps over zero padding. Every
    output sees the whole axis, through taps that depend on its position, so there is no position
    embedding.

    Args:
        channels: Number of channels of the input and the output.
        axis: Axis: 2 (height) or 3 (width).
        length: Meta length, in feature pixels, for which the kernel has 2 * length - 1 taps.
        resize: Method to fit other lengths: `interpolate` all taps, see `fit_length`, or `crop` to
            those in the middle.
    """

    def __init__(
        self, channels: int, axis: int, length: int, resize: Resize = "interpolate"
    ) -> None:
        super().__init__()
        self.axis = axis
        self.is_vertical = axis == HEIGHT  # TorchScript cannot read the constant in `forward`
        self.resize: Resize = resize
        taps = 2 * length - 1
        bound = 1 / math.sqrt(taps)  # torch's default for convolutions
        shape = (channels, 1, *along(axis, taps))
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

    def kernel(self, length: int) -> Tensor:
        """Return the kernel, of 2 * length - 1 taps, for a map of that length.

        Raises:
            ValueError: If `crop` is asked for more taps than the parameter has.
        """
        taps = 2 * length - 1
        spare = self.weight.shape[self.axis] - taps
        if self.resize == "interpolate":
            return fit_length(self.weight, self.axis, taps, self.resize)
        if spare < 0:
            raise ValueError(too_long(length, (self.weight.shape[self.axis] + 1) // 2))
        return self.weight.narrow(self.axis, spare // 2, taps)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        length = x.shape[self.axis]
        padding = (length - 1, 0) if self.is_vertical else (0, length - 1)
        return functional.conv2d(x, self.kernel(length), padding=padding, groups=x.shape[1])

    def extra_repr(self) -> str:
        """Return the shape of the kernel."""
        return f"{tuple(self.weight.shape)}"


class ParallelParC(nn.Module):
    """ParC as a plug-in (section 4.5): a replacement for a convolution of stride 1.

    Half of the channels is convolved along the height, half along the width, each with a bias and
    an optional position embedding (released values).

    Args:
        channels: Number of channels of the input and the output; even.
        size: Meta height and width, in feature pixels.
        groups: Number of groups of the replaced convolution; None: as many as channels (depthwise).
            Each half has half of them; 1 mixes all channels of a half.
        position_embedding: Whether there are position embeddings.
        algorithm: Algorithm of the convolutions, see `circular_conv`.

    Raises:
        ValueError: If the number of channels is odd.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        groups: int | None = None,
        position_embedding: bool = True,
        algorithm: Algorithm = "auto",
    ) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(
                f"channels={channels}: ParC halves its channels; expected an even number"
            )
        half = channels // 2
        groups = max(1, (groups or channels) // 2)
        self.height, self.width = (
            nn.Sequential(
                PositionEmbedding(half, axis, length, std=0.02)
                if position_embedding
                else nn.Identity(),
                CircularConv(half, axis, length, groups=groups, bias=True, algorithm=algorithm),
            )
            for axis, length in zip((HEIGHT, WIDTH), size, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        along_height, along_width = x.chunk(2, dim=1)
        return torch.cat([self.height(along_height), self.width(along_width)], dim=1)

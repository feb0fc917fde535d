"""Long convolutions of a baked network as matrix products, for XNNPACK.

XNNPACK, which computes the files of LiteRT and ExecuTorch, has fast depthwise convolutions of up to
25 taps. Longer ones take several passes, and then most of the time of a network with ParC.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from parcnet_train.deploy.bake.blocks import FixedMixer
from parcnet_train.models.layers.circular import HEIGHT, WIDTH

Network = TypeVar("Network", bound=nn.Module)

FAST_TAPS = 25  # largest depthwise kernel of a single pass: src/f32-dwconv of XNNPACK


class AxisProduct(nn.Module):
    """Depthwise convolutions along one axis of a map: a matrix product for each channel.

    Args:
        layers: Convolutions, one after the other; only the last one may have a bias.
        axis: HEIGHT or WIDTH.
        length: Length L of the axis, in pixels.

    Attributes:
        matrix: Responses `(1, C, L, L)` of each channel to an impulse at each position.
        bias: Bias `(1, C, 1, 1)`, or None.
    """

    matrix: Tensor
    bias: Tensor | None

    def __init__(self, layers: list[nn.Conv2d], axis: int, length: int) -> None:
        super().__init__()
        self.axis, last = axis, layers[-1]
        # Position i of an axis is an impulse in row i of one channel along the width, and in column
        # i along the height.
        x = torch.eye(length).to(last.weight).expand(1, last.in_channels, length, length)
        with torch.no_grad():
            for each in layers:
                weight, padding = each.weight, (int(each.padding[0]), int(each.padding[1]))
                x = functional.conv2d(x, weight, None, 1, padding, each.dilation, each.groups)
        self.register_buffer("matrix", x.contiguous())
        bias = None if last.bias is None else last.bias.detach().view(1, -1, 1, 1)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        y = self.matrix @ x if self.axis == HEIGHT else x @ self.matrix
        return y if self.bias is None else y + self.bias


def with_products(network: Network) -> Network:
    """Return a copy of a network whose long convolutions of baked mixers are matrix products."""
    network = copy.deepcopy(network)
    for mixer in [each for each in network.modules() if isinstance(each, FixedMixer)]:
        height, width = mixer.size
        mixer.along_height = shortened(mixer.along_height, HEIGHT, height)
        mixer.along_width = shortened(mixer.along_width, WIDTH, width)
    return network


def shortened(layer: nn.Module, axis: int, length: int) -> nn.Module:
    """Return an `AxisProduct` in place of convolutions, if one has more taps than `FAST_TAPS`."""
    layers = [each for each in layer.modules() if isinstance(each, nn.Conv2d)]
    if max(max(each.kernel_size) for each in layers) <= FAST_TAPS:
        return layer
    return AxisProduct(layers, axis, length)

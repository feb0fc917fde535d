"""Layers that several networks share: convolution with norm and activation, inverted residual."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from parcnet_train.models.layers.transformer import increasing
from parcnet_train.sizes import make_divisible


class Conv(nn.Conv2d):
    """Convolution that avoids bfloat16 on CPUs if its gradients would be slow there.

    Under autocast, the gradients of a strided depthwise convolution take about ten times as long in
    bfloat16 as in float32 (docs/benchmarks.md), so it is computed in float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, out_channels, H / stride, W / stride)`."""
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self.in_fast_dtype(x)
        return self._conv_forward(x, self.weight, self.bias)

    def in_fast_dtype(self, x: Tensor) -> Tensor:
        """Do what `forward` does outside of TorchScript, which has no autocast by device."""
        slow = self.groups > 1 and self.stride[0] > 1
        # Autocast comes before the device, which torch.fx cannot decide on.
        if not (slow and torch.is_autocast_enabled("cpu") and x.device.type == "cpu"):
            return self._conv_forward(x, self.weight, self.bias)
        with torch.autocast("cpu", enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return self._conv_forward(x.float(), self.weight.float(), bias).to(x.dtype)


class ConvNormAct(nn.Sequential):
    """Convolution without bias, BatchNorm, activation; padded to keep H and W at stride 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        activation: type[nn.Module] | None = nn.SiLU,
    ) -> None:
        super().__init__()
        self.conv = Conv(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=(kernel_size - 1) // 2 * dilation,
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(out_channels)
        if activation is not None:
            self.act = activation()


class InvertedResidual(nn.Module):
    """MobileNetV2's block (arXiv 1801.04381): expand 1x1, depthwise 3x3, project 1x1.

    The input is added if neither the resolution nor the number of channels changes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        expansion: int = 4,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        hidden = make_divisible(in_channels * expansion)
        self.expand = ConvNormAct(in_channels, hidden)
        self.depthwise = ConvNormAct(hidden, hidden, 3, stride, hidden, dilation)
        self.project = ConvNormAct(hidden, out_channels, activation=None)
        self.has_skip = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, in_channels, H, W)` to `(B, out_channels, H / stride, W / stride)`."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.has_skip else y


def local_stages(
    stem_channels: tuple[int, int, int], expansion: int, stem_kernel: int = 3
) -> nn.ModuleList:
    """Build the convolutional stages of stride 2 and 4 that ParC-Net and MobileViT share.

    Args:
        stem_channels: Channels of the first convolution and of the two stages.
        expansion: Expansion factor of the inverted residuals.
        stem_kernel: Kernel size of the first convolution, in pixels along both axes; odd.
    """
    stem, first, second = stem_channels
    return nn.ModuleList(
        [
            nn.Sequential(
                ConvNormAct(3, stem, stem_kernel, stride=2),
                InvertedResidual(stem, first, 1, expansion),
            ),
            nn.Sequential(
                InvertedResidual(first, second, 2, expansion),
                InvertedResidual(second, second, 1, expansion),
                InvertedResidual(second, second, 1, expansion),
            ),
        ]
    )


def initialize(module: nn.Module) -> None:
    """Set initial weights as in the authors' release; used with `Module.apply`.

    Convolutions: Kaiming normal, fan out; linear layers: truncated normal of 0.02; biases 0.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def set_stochastic_depth(
    blocks: Sequence[nn.Module],
    probability: float,
    skip: Callable[[float, str], nn.Module] = StochasticDepth,
) -> None:
    """Let blocks skip their residual branches in training (arXiv 1603.09382), in place.

    The probability rises linearly, from 0 in the first block to the whole one in the last. Each
    image of a batch is skipped by itself, and the branches that are kept are scaled up.

    Args:
        blocks: Blocks in the order of computation. Each has a module `skip` behind every residual
            branch.
        probability: Probability that the last block is skipped, 0 to below 1; 0 changes nothing.
        skip: Class of the modules, called with a probability and `row`.
    """
    if probability:
        (shares,) = increasing(probability, [len(blocks)])
        for block, share in zip(blocks, shares, strict=True):
            block.skip = skip(share, "row")

"""The authors' ParC-MobileNetV2 and ParC-ConvNeXt, written anew for the parity of conversions.

Names and shapes are those of the authors' state dicts (classification, 1000 classes). What they
compute is taken from the paper: equations 2 and 3 and figure 3 (ParC), figure 5 (the blocks). They
share no code with the package: ParC concatenates the map with itself instead of padding indices.
"""

import itertools

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.mobilenetv2 import InvertedResidual, mobilenet_v2

H, W = 2, 3  # axes of a map (B, C, H, W)


class Half(nn.Module):
    """ParC along one axis: a depthwise circular convolution as long as the map."""

    def __init__(self, channels, axis, length, embedded):
        super().__init__()
        self.axis = axis
        size = (length, 1) if axis == H else (1, length)
        if embedded:
            self.pe = nn.Parameter(torch.zeros(1, channels, *size))
        self.gcc_conv = nn.Conv2d(channels, channels, size, groups=channels)

    def forward(self, x):
        if hasattr(self, "pe"):
            x = x + self.pe
        length = x.shape[self.axis]
        twice = torch.cat([x, x.narrow(self.axis, 0, length - 1)], self.axis)
        return self.gcc_conv(twice)


class ParC(nn.Module):
    """What both blocks have: half of the channels along the height, half along the width."""

    def add_parc(self, channels, length, embedded):
        self.gcc_H = Half(channels // 2, H, length, embedded)
        self.gcc_W = Half(channels // 2, W, length, embedded)

    def parc(self, x):
        first, second = x.chunk(2, dim=1)
        return torch.cat([self.gcc_H(first), self.gcc_W(second)], dim=1)


class ParCInvertedResidual(ParC):
    def __init__(self, channels, length, embedded):
        super().__init__()
        wide = 6 * channels
        self.pw_expand = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()
        )
        self.add_parc(wide, length, embedded)
        self.bn = nn.BatchNorm2d(wide)
        self.pw_linear = nn.Sequential(
            nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x):
        return x + self.pw_linear(functional.relu6(self.bn(self.parc(self.pw_expand(x)))))


def parc_mobilenetv2():
    """Return a network with ParC in blocks 9, 10, 13 and 16; block 10 has no embedding."""
    network = mobilenet_v2()
    for place, length in ((9, 14), (10, 14), (13, 14), (16, 7)):
        assert isinstance(network.features[place], InvertedResidual)
        channels = network.features[place].out_channels
        network.features[place] = ParCInvertedResidual(channels, length, place != 10)
    return network


class ConvNeXtBlock(ParC):
    def __init__(self, channels, length=None):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))
        if length is None:
            self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        else:
            self.add_parc(channels, length, embedded=True)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x):
        mixed = self.dwconv(x) if hasattr(self, "dwconv") else self.parc(x)
        rows = self.norm(mixed.movedim(1, 3))
        rows = self.gamma * self.pwconv2(functional.gelu(self.pwconv1(rows)))
        return x + rows.movedim(3, 1)


class MapNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.movedim(1, 3)).movedim(3, 1)


class ParCConvNeXt(nn.Module):
    """ConvNeXt-XT with ParC in the last third of stage 3 and the last block of stage 4."""

    def __init__(self, channels=(48, 96, 192, 384), depths=(3, 3, 9, 3)):
        super().__init__()
        stem = nn.Conv2d(3, channels[0], 4, stride=4), MapNorm(channels[0], eps=1e-6)
        self.downsample_layers = nn.ModuleList([nn.Sequential(*stem)])
        for before, after in itertools.pairwise(channels):
            layers = MapNorm(before, eps=1e-6), nn.Conv2d(before, after, 2, stride=2)
            self.downsample_layers.append(nn.Sequential(*layers))
        lengths = {(2, 6): 14, (2, 7): 14, (2, 8): 14, (3, 2): 7}
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    ConvNeXtBlock(channels[stage], lengths.get((stage, block)))
                    for block in range(depths[stage])
                )
            )
            for stage in range(4)
        )
        self.norm = nn.LayerNorm(channels[-1], eps=1e-6)
        self.head = nn.Linear(channels[-1], 1000)

    def forward(self, x):
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        return self.head(self.norm(x.mean((H, W))))

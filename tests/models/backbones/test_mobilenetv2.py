"""MobileNetV2: its maps and names; `test_adapt.py` compares its outputs with those of others."""

import pytest
import torch
import torchvision
from torch import nn

from parcnet_train.models.backbones.mobilenetv2 import MobileNetV2

CHANNELS = (16, 24, 32, 96, 320)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_maps_have_the_declared_strides_with_dilation(output_stride):
    backbone = MobileNetV2(output_stride=output_stride).eval()
    strides = [min(stride, output_stride) for stride in (2, 4, 8, 16, 32)]
    assert [(level.stride, level.channels) for level in backbone.levels] == [
        *zip(strides, CHANNELS, strict=True)
    ]
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(each.shape[2:]) for each in maps] == [(64 // s, 96 // s) for s in strides]


def test_parameter_names_match_torchvision():
    names = torchvision.models.mobilenet_v2().state_dict().keys()
    outside = ("features.18.", "classifier.")
    expected = {name for name in names if not name.startswith(outside)}
    assert MobileNetV2().network.state_dict().keys() == expected


def test_last_level_has_torchvisions_expansion():
    *others, last = MobileNetV2().levels
    assert (last.expansion, last.activation) == (1280, nn.ReLU6)
    assert {level.expansion for level in others} == {None}

"""ConvNeXt: its maps and names; `test_adapt.py` compares its outputs with torchvision and timm."""

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.convnext import ConvNeXt as Theirs

from parcnet_train.models.backbones.convnext import EPSILON, ConvNeXt

CHANNELS, DEPTHS = (4, 8, 12, 16), (1, 1, 2, 1)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_maps_have_the_declared_strides_with_dilation(output_stride):
    backbone = ConvNeXt(CHANNELS, DEPTHS, output_stride=output_stride).eval()
    strides = [min(stride, output_stride) for stride in (4, 8, 16, 32)]
    assert [(level.stride, level.channels) for level in backbone.levels] == [
        *zip(strides, CHANNELS, strict=True)
    ]
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(each.shape[2:]) for each in maps] == [(64 // s, 96 // s) for s in strides]


@pytest.mark.parametrize("output_stride", [8, 32])
def test_parameter_names_match_torchvision(output_stride):
    settings = [
        CNBlockConfig(before, after, depth)
        for before, after, depth in zip(CHANNELS, (*CHANNELS[1:], None), DEPTHS, strict=True)
    ]
    names = {name for name in Theirs(settings).state_dict() if "classifier" not in name}
    backbone = ConvNeXt(CHANNELS, DEPTHS, output_stride=output_stride)
    assert backbone.network.state_dict().keys() == names


def test_only_the_last_level_has_a_norm_after_pooling():
    levels = ConvNeXt(CHANNELS, DEPTHS).levels
    assert [level.pooled_norm for level in levels] == [None, None, None, EPSILON]


def test_it_has_no_batch_norm():
    norms = [each for each in ConvNeXt(CHANNELS, DEPTHS).modules() if isinstance(each, _BatchNorm)]
    assert norms == []

"""Output strides of stages, and the maps of a backbone."""

import pytest
import torch
from torch import nn

from parcnet_train.models.base import Backbone, Level, StageSampling, last_stages


@pytest.mark.parametrize(
    ("output_stride", "expected"),
    [
        (32, [(2, 8, 1, 1), (2, 16, 1, 1), (2, 32, 1, 1)]),
        (16, [(2, 8, 1, 1), (2, 16, 1, 1), (1, 16, 1, 2)]),
        (8, [(2, 8, 1, 1), (1, 8, 1, 2), (1, 8, 2, 4)]),
    ],
)
def test_dilation_replaces_the_strides_beyond_the_output_stride(output_stride, expected):
    assert list(last_stages(output_stride)) == [StageSampling(*each) for each in expected]


def test_every_stage_reads_the_map_of_the_previous_one():
    backbone = Backbone()
    backbone.levels = (Level(2, 3), Level(4, 5))
    backbone.stages = nn.ModuleList([nn.AvgPool2d(2), nn.Conv2d(3, 5, 2, 2)])
    images = torch.rand(1, 3, 8, 12)
    first, second = backbone(images)
    assert torch.equal(first, nn.functional.avg_pool2d(images, 2))
    assert torch.equal(second, backbone.stages[1](first))
    assert [len(each) for each in backbone.stage_parameters()] == [0, 2]

import pytest
import torch
from torch import nn

from parcnet_train.models.base import Backbone, Level
from parcnet_train.models.heads.classifier import Classifier
from parcnet_train.models.model import Model


class Identity(Backbone):
    levels = (Level(1, 3),)
    stages = nn.ModuleList([nn.Identity()])


class Seen(nn.Module):
    """A head that returns the maps as they are."""

    def forward(self, maps):
        return maps


def bytes_of_all_values():
    return torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 3, 16, 16)


def test_uint8_and_float_images_give_equal_logits():
    torch.manual_seed(0)
    backbone = Backbone()
    backbone.levels = (Level(2, 8),)
    backbone.stages = nn.ModuleList([nn.Conv2d(3, 8, 3, 2, 1)])
    model = Model(backbone, Classifier(backbone.levels, 10)).eval()
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    logits = model(images)
    assert logits.shape == (2, 10)
    assert torch.equal(logits, model(images.float() / 255))


def test_uint8_images_are_scaled_to_0_to_1():
    (seen,) = Model(Identity(), Seen())(bytes_of_all_values())
    assert seen.dtype == torch.float32
    expected = torch.linspace(0, 1, 256, dtype=torch.float64)
    assert (seen[0, 1].flatten() - expected).abs().max() < 1e-7


def test_uint8_images_are_converted_to_contiguous_layout():
    images = bytes_of_all_values().contiguous(memory_format=torch.channels_last)
    (seen,) = Model(Identity(), Seen())(images)
    assert seen.is_contiguous()
    assert torch.equal(seen, Model(Identity(), Seen())(images.contiguous())[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_float_images_are_not_changed(dtype):
    images = torch.rand(1, 3, 4, 4).to(dtype)
    (seen,) = Model(Identity(), Seen())(images)
    assert seen is images


def test_head_reads_the_maps_of_all_stages_in_order():
    backbone = Backbone()
    backbone.levels = (Level(2, 3), Level(4, 3))
    backbone.stages = nn.ModuleList([nn.AvgPool2d(2), nn.MaxPool2d(2)])
    images = torch.rand(1, 3, 8, 12)
    first, second = Model(backbone, Seen())(images)
    assert torch.equal(first, nn.functional.avg_pool2d(images, 2))
    assert torch.equal(second, nn.functional.max_pool2d(first, 2))


def test_stages_before_the_first_level_are_not_levels():
    backbone = Backbone()
    backbone.levels = (Level(4, 5),)
    backbone.stages = nn.ModuleList([nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 5, 2, 2)])
    images = torch.rand(1, 3, 8, 12)
    (only,) = backbone(images)
    assert torch.equal(only, backbone.stages[1](backbone.stages[0](images)))
    assert backbone.stage_parameters() == [list(backbone.parameters())]

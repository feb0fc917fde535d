import math

import numpy as np
import pytest
import timm
import torch

from parcnet_train.build import build_model
from parcnet_train.conversion.layouts import TIMM_MOBILEVIT
from parcnet_train.conversion.translate import translate
from parcnet_train.models.backbones.mobilevit import MobileViT, MobileViTStage, fold, unfold
from running import composed


def randomize(model):
    """Set random values, so that every parameter and statistic affects the output."""
    torch.manual_seed(0)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif value.dim() > 1:
            value.normal_(std=1 / math.sqrt(value[0].numel()))
        elif name.endswith("weight"):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point():
            value.normal_(std=0.3)


@pytest.fixture(scope="module")
def pair():
    reference = timm.create_model("mobilevit_s").eval()
    randomize(reference)
    ours = build_model(composed("backbone=mobilevit_s"), num_classes=1000).eval()
    entries = translate(reference.state_dict(), TIMM_MOBILEVIT)
    ours.load_state_dict({name: entry.value for name, entry in entries.items()})
    return ours, reference


def tiny(**settings):
    defaults = {"widths": (8, 12, 16), "depths": (1, 2, 1), "expansion": 2}
    return MobileViT((4, 8, 8), (12, 16, 20), **{**defaults, **settings})


@pytest.mark.parametrize("size", [(256, 256), (192, 320), (160, 224)])
def test_logits_match_timm(pair, size):
    ours, reference = pair
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        got, expected = ours(images), reference(images)
    assert expected.std() > 0.05
    assert (got - expected).abs().max() < 1e-4 * expected.std()


def test_logits_depend_on_every_parameter_that_is_compared(pair):
    ours, _ = pair
    images = torch.rand(1, 3, 64, 96)
    ours(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in ours.parameters())
    ours.zero_grad()


@pytest.mark.parametrize("size", [(2, 2), (4, 6), (8, 2), (6, 10)])
def test_unfold_matches_its_definition(size):
    height, width = size
    x = np.random.default_rng(0).standard_normal((3, 5, height, width))
    sequences = np.empty((3, 4, height * width // 4, 5))
    for b, c, i, j in np.ndindex(*x.shape):
        place = 2 * (i % 2) + j % 2
        patch = (i // 2) * (width // 2) + j // 2
        sequences[b, place, patch, c] = x[b, c, i, j]
    got = unfold(torch.from_numpy(x))
    np.testing.assert_array_equal(got.numpy(), sequences.reshape(12, -1, 5))


@pytest.mark.parametrize("size", [(2, 2), (4, 6), (8, 2), (6, 10)])
def test_fold_is_the_inverse_of_unfold(size):
    x = torch.randn(3, 5, *size)
    assert torch.equal(fold(unfold(x), *size), x)


def test_heads_must_divide_the_widths():
    with pytest.raises(
        ValueError, match=r"backbone\.widths=\[8, 12, 16\]: .*multiples of backbone\.heads=5"
    ):
        tiny(heads=5)


@pytest.mark.parametrize("size", [(4, 4), (5, 4), (4, 7), (5, 7), (1, 1)])
def test_stage_keeps_the_size_of_its_map(size):
    stage = MobileViTStage(6, 8, 1, 4, dropout=0.0, dilation=1).eval()
    y = stage(torch.randn(2, 6, *size))
    assert y.shape == (2, 6, *size)
    assert y.isfinite().all()


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (160, 64), (70, 101)])
def test_declared_levels_match_the_maps_for_any_size(size):
    backbone = tiny().eval()
    maps = backbone(torch.rand(2, 3, *size))
    stated = [
        (2, level.channels, *(math.ceil(length / level.stride) for length in size))
        for level in backbone.levels
    ]
    assert [tuple(each.shape) for each in maps] == stated
    assert all(each.isfinite().all() for each in maps)


def test_dropout_is_active_only_in_training():
    torch.manual_seed(0)
    backbone = tiny(dropout=0.5)
    for norm in backbone.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 0.0
    images = torch.rand(2, 3, 64, 64)
    assert not torch.equal(backbone(images)[-1], backbone(images)[-1])
    backbone.eval()
    assert torch.equal(backbone(images)[-1], backbone(images)[-1])

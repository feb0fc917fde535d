import functools
import math

import pytest
import torch
from torch import nn

from parcnet_train.build import build_model, meta_device
from parcnet_train.config.compose import compose_plain
from parcnet_train.detection.anchors import make_anchors
from parcnet_train.errors import ConfigError
from parcnet_train.models.base import Level
from parcnet_train.models.heads.ssdlite import SSDLite
from running import BACKBONES, OWN, configure, is_dense

LEVELS = (Level(8, 7), Level(16, 12), Level(32, 20))
SMALL = {"projections": (16, 12), "extra_channels": (12, 8, 8, 6)}


@functools.cache
def values_of(backbone):
    return compose_plain(
        ["task=detection", f"backbone={backbone}", "data=coco_format", "data.root=none"], OWN
    ).values


def head(num_classes=3, **arguments):
    torch.manual_seed(0)
    return SSDLite(LEVELS, num_classes, **{**SMALL, **arguments}).eval()


def maps(height, width, batch=2):
    """Make maps of all levels, for images of 32 times that size."""
    shapes = ((7, 4), (12, 2), (20, 1))
    return [torch.randn(batch, channels, n * height, n * width) for channels, n in shapes]


def sizes_of(height, width):
    """Return the sizes of the maps of all six levels: each is half the previous one, rounded up."""
    sizes = [(math.ceil(height / 2**n), math.ceil(width / 2**n)) for n in range(4, 9)]
    return [*sizes, (1, 1)]


# Authors' implementation, 81 classes.
@pytest.mark.parametrize(
    ("backbone", "parameters"),
    [("parcnet_s", 5_197_282), ("mobilevit_s", 5_738_826), ("mobilevit_xs", 2_742_042)],
)
def test_parameter_and_anchor_counts_match_published_ones(backbone, parameters):
    with meta_device():
        model = build_model(values_of(backbone), num_classes=81).eval()
        outputs = model(torch.empty(1, 3, 320, 320))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    shapes = [tuple(each.shape) for each in outputs]
    assert shapes == [(1, 3232, 81), (1, 3232, 4), (3232, 4)]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_head_works_on_every_backbone_or_reports_its_single_level(backbone):
    if not is_dense(backbone):
        message = "head=ssdlite: the backbone has one level, of stride .* Fix: choose a backbone"
        with pytest.raises(ConfigError, match=message), meta_device():
            build_model(values_of(backbone), num_classes=3)
        return
    torch.manual_seed(0)
    model = build_model(values_of(backbone), num_classes=3).eval()
    for size in ((96, 160), (64, 64)):
        with torch.inference_mode():
            class_logits, box_offsets, anchors = model(torch.rand(2, 3, *size))
        assert torch.equal(anchors, make_anchors(sizes_of(*size)))
        assert class_logits.shape == (2, len(anchors), 3)
        assert box_offsets.shape == (2, len(anchors), 4)
        assert class_logits.isfinite().all()
        assert box_offsets.isfinite().all()


def test_every_parameter_gets_a_finite_gradient():
    torch.manual_seed(0)
    model = build_model(values_of("parcnet_xs"), num_classes=3).train()
    outputs = model(torch.rand(4, 3, 64, 96))
    (outputs.class_logits.square().mean() + outputs.box_offsets.square().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_each_anchor_has_its_coordinates_first_and_then_its_classes():
    module = head()
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.zeros_(layer.weight)
            layer.bias.data = torch.arange(len(layer.bias)).float()
    class_logits, box_offsets, _ = module(maps(1, 2))
    cell = torch.cat([box_offsets, class_logits], dim=-1)[1, :6]
    assert torch.equal(cell, torch.arange(6 * 7).float().view(6, 7))
    # The second cell predicts the same, and so does the last level with four anchors.
    assert torch.equal(class_logits[0, 6:12], class_logits[0, :6])
    assert torch.equal(class_logits[0, -4:], class_logits[0, :4])


@pytest.mark.parametrize("row", [0, 2, 5])
@pytest.mark.parametrize("column", [1, 7])
def test_predictions_come_from_the_cell_of_their_anchor(row, column):
    module, given = head(), maps(3, 4)
    changed = [each.clone() for each in given]
    changed[1][:, :, row, column] += 1
    before, after = module(given), module(changed)
    moved = (before.class_logits != after.class_logits).any(dim=-1).all(dim=0)
    # A separable convolution sees 3 x 3 cells of its level; no other level follows from this one.
    centre = torch.tensor([(column + 0.5) / 8, (row + 0.5) / 6])
    distance = (before.anchors[:, :2] - centre).abs() * torch.tensor([8, 6])
    near = (distance < 1.1).all(dim=-1)
    near[6 * 8 * 6 :] = False
    assert torch.equal(moved, near)


def test_extra_levels_follow_from_the_last_map_before_its_projection():
    module, given = head(), maps(2, 2)
    before = module(given)
    nn.init.normal_(module.projections[1].conv.weight)
    after = module(given)
    moved = (before.box_offsets != after.box_offsets).any(dim=-1).any(dim=0)
    assert moved.nonzero().flatten().tolist() == list(range(16 * 6, 16 * 6 + 4 * 6))


def test_maps_with_the_right_channels_are_not_projected():
    projections = head(projections=(12, 24)).projections
    assert isinstance(projections[0], nn.Identity)
    assert projections[1].conv.out_channels == 24
    assert isinstance(projections[1].act, nn.ReLU)


def test_initial_weights_match_the_release():
    for name, layer in head().named_modules():
        if isinstance(layer, nn.Conv2d):
            place = layer.kernel_size[0] * layer.kernel_size[1]
            fans = (layer.in_channels // layer.groups + layer.out_channels) * place
            limit = math.sqrt(6 / fans)  # Xavier uniform
            assert 0.8 * limit < layer.weight.abs().max() <= limit, name
            assert layer.bias is None or not layer.bias.any(), name


@pytest.mark.parametrize("levels", [LEVELS[:2], (Level(4, 3), Level(32, 5))], ids=["16", "32"])
def test_a_backbone_without_strides_16_and_32_is_an_error(levels):
    strides = ", ".join(str(level.stride) for level in levels)
    message = rf"^head=ssdlite: .*strides {strides}; .*16 and 32.*backbone\.output_stride=32"
    with pytest.raises(ConfigError, match=message):
        SSDLite(levels, 3)


def test_check_reports_a_backbone_with_output_stride_16():
    overrides = ["task=detection", "backbone=parcnet_xs", "backbone.output_stride=16"]
    (fault,) = configure(overrides)[1]
    assert fault.startswith("backbone, head: head=ssdlite: ")
    assert "strides 2, 4, 8, 16, 16; expected 16 and 32" in fault
    assert "backbone.output_stride=32" in fault


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("head.projections=[512]", "head.projections=[512]: expected a list of two"),
        ("head.projections=[512,0]", "a list of two values, each a whole number of at least 1"),
        ("head.extra_channels=[8,8]", "head.extra_channels=[8,8]: expected a list of four"),
        ("+head.dropout=0.1", "head.dropout: SSDLite has no such argument"),
    ],
)
def test_check_reports_invalid_head_arguments(override, message):
    _, faults = configure(["backbone=parcnet_xs", "head=ssdlite", override])
    assert len(faults) == 1
    assert message in faults[0]


@pytest.mark.parametrize(
    ("task", "head", "of"),
    [("classification", "ssdlite", "detection"), ("detection", "classifier", "classification")],
)
def test_check_reports_a_head_of_a_different_task(task, head, of, tmp_path):
    data = "data=coco_format" if task == "detection" else "data=demo"
    _, faults = configure([f"task={task}", f"head={head}", data, f"data.root={tmp_path}"])
    assert f"head={head}: it is for task={of}, not for task={task}" in faults

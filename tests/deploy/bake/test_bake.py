import pytest
import torch
import torchvision
from torch import nn

import parcnet_train
from lively import enliven, lively
from parcnet_train.deploy.bake.bake import bake
from parcnet_train.deploy.bake.blocks import FixedMixer
from parcnet_train.models.backbones.parcnet import Axes
from parcnet_train.models.layers.parc import CircularConv, PositionEmbedding
from running import BACKBONES

SIZES = ((64, 96), (128, 64))
TASKS = ("classification", "detection", "segmentation")
# One of each kind of what is rewritten.
SAMPLE = ("mobilevit_xxs", "parc_convnext_xt", "parc_mobilenetv2", "parc_resnet50", "parcnet_xs")
OTHERS_SLOWLY = [n if n in SAMPLE else pytest.param(n, marks=pytest.mark.slow) for n in BACKBONES]
RESIZED = (CircularConv, PositionEmbedding, Axes)


def outputs_of(model, images):
    with torch.no_grad():
        outputs = model(images)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def assert_same(model, size):
    """In float64, where folding has no error to hide in."""
    model = model.double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    baked = bake(model, size)
    assert not any(module.training for module in baked.modules())
    torch.manual_seed(1)
    images = torch.rand(1, 3, *size, dtype=torch.float64)
    expected = outputs_of(model, images)
    for ours, theirs in zip(outputs_of(baked, images), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10 * float(theirs.std()))
    for name, value in model.state_dict().items():  # which `bake` leaves as it was
        assert torch.equal(value, before[name]), name
    return baked


@pytest.mark.parametrize("backbone", OTHERS_SLOWLY)
def test_every_backbone_is_the_same_without_norms(backbone):
    baked = assert_same(lively(backbone), SIZES[0])
    assert not [each for each in baked.modules() if isinstance(each, (nn.BatchNorm2d, *RESIZED))]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_task_of_every_backbone(backbone, task, size):
    assert_same(lively(backbone, task), size)


@pytest.mark.parametrize(
    ("backbone", "task"), [("parcnet_xs", "detection"), ("mobilevit_xxs", "segmentation")]
)
def test_dense_heads(backbone, task):
    assert_same(lively(backbone, task), SIZES[1])


@pytest.mark.parametrize("row", [3, 4, 6])
def test_rows_of_table_2(row):
    """Kernels over zeros (whose norm in front is no constant), ResNeXt blocks, no embeddings."""
    assert_same(lively("parcnet_xs", "classification", f"ablation=table2_row{row}"), SIZES[0])


CROPPED = ("classification", "backbone.kernel_resize=crop")


def test_cropped_kernels_and_wide_maps():
    # Wide enough for maps that are wrapped.
    baked = assert_same(lively("parcnet_xs", *CROPPED), (32, 256))
    assert any(
        isinstance(each.along_width, nn.Sequential)
        for each in baked.modules()
        if isinstance(each, FixedMixer)
    )


def test_maps_of_odd_sizes():
    assert_same(lively("mobilevit_xxs"), (96, 160))


def test_a_network_with_plugged_in_parc():
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=5).eval()
    parcnet_train.parcify(network, ["layer3.1.conv2", "layer4.1.conv2"], image_size=64)
    enliven(network.eval())
    baked = assert_same(network, (64, 96))
    assert not [each for each in baked.modules() if isinstance(each, nn.BatchNorm2d)]


def test_the_package_has_it():
    assert parcnet_train.bake is bake

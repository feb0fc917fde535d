import pytest
import timm
import torch
import torchvision
from torch import nn

import parcnet_train
from lively import enliven, lively
from parcnet_train.deploy.bake.bake import bake
from parcnet_train.deploy.bake.blocks import FixedMixer
from parcnet_train.models.backbones.parcnet import Axes
from parcnet_train.models.layers.parc import CircularConv, OversizedConv, PositionEmbedding
from running import BACKBONES, is_dense

SIZES = ((64, 96), (128, 64))
TASKS = ("classification", "detection", "segmentation")
# One network for each kind of rewriting.
SAMPLE = (
    "mobilevit_xxs",
    "parc_convnext_xt",
    "parc_mobilenetv2",
    "parc_resnet50",
    "parcnet_xs",
    "parcnetv2_xt",
    "pvt_tiny",
    "t2t_vit_7",
)
OTHERS_SLOWLY = [n if n in SAMPLE else pytest.param(n, marks=pytest.mark.slow) for n in BACKBONES]


def slowly(*values):
    return [pytest.param(each, marks=pytest.mark.slow) for each in values]


RESIZED = (CircularConv, OversizedConv, PositionEmbedding, Axes)


def outputs_of(model, images):
    with torch.no_grad():
        outputs = model(images)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def assert_same(model, size):
    """Compare in float64, where rounding cannot hide an error of the folding."""
    model = model.double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    baked = bake(model, size)
    assert not any(module.training for module in baked.modules())
    torch.manual_seed(1)
    images = torch.rand(1, 3, *size, dtype=torch.float64)
    expected = outputs_of(model, images)
    for ours, theirs in zip(outputs_of(baked, images), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10 * float(theirs.std()))
    for name, value in model.state_dict().items():  # `bake` does not change the model
        assert torch.equal(value, before[name]), name
    return baked


@pytest.mark.parametrize("backbone", OTHERS_SLOWLY)
def test_baked_backbones_match_the_original_and_have_no_norms(backbone):
    baked = assert_same(lively(backbone), SIZES[0])
    assert not [each for each in baked.modules() if isinstance(each, (nn.BatchNorm2d, *RESIZED))]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_baked_networks_match_for_every_task_and_backbone(backbone, task, size):
    if task != "classification" and not is_dense(backbone):
        return
    assert_same(lively(backbone, task), size)


@pytest.mark.parametrize(
    ("backbone", "task"),
    [
        pytest.param("parcnet_xs", "detection", marks=pytest.mark.slow),
        ("mobilevit_xxs", "segmentation"),
    ],
)
def test_baked_dense_heads_match(backbone, task):
    assert_same(lively(backbone, task), SIZES[1])


@pytest.mark.parametrize("row", [*slowly(3, 6), 4])
def test_baked_ablations_of_table_2_match(row):
    """Zero padding (the norm before it adds no constant), ResNeXt blocks, no embeddings."""
    assert_same(lively("parcnet_xs", "classification", f"ablation=table2_row{row}"), SIZES[0])


@pytest.mark.parametrize("resize", ["interpolate", *slowly("crop")])
def test_baked_oversized_kernels_match(resize):
    overrides = ("backbone.mixer=oversized", f"backbone.kernel_resize={resize}")
    baked = assert_same(lively("parcnet_xs", "classification", *overrides), SIZES[0])
    assert not [each for each in baked.modules() if isinstance(each, OversizedConv)]


CROPPED = ("classification", "backbone.kernel_resize=crop")


def test_baked_cropped_kernels_and_wide_maps_match():
    # Wide enough for maps to be wrapped.
    baked = assert_same(lively("parcnet_xs", *CROPPED), (32, 256))
    assert any(
        isinstance(each.along_width, nn.Sequential)
        for each in baked.modules()
        if isinstance(each, FixedMixer)
    )


def test_baked_position_embeddings_have_the_size_of_the_map():
    stages = assert_same(lively("pvt_tiny"), (96, 160)).backbone.stages
    assert [each.embed.grid for each in stages] == [(24, 40), (12, 20), (6, 10), (3, 5)]
    assert [each.embed.position.shape[1] for each in stages] == [960, 240, 60, 15]
    last = assert_same(lively("t2t_vit_7"), (96, 160)).backbone.stages[2]
    assert (last.grid, last.positions.shape[1]) == ((6, 10), 61)


def test_baked_networks_match_at_odd_map_sizes():
    assert_same(lively("mobilevit_xxs"), (96, 160))


def test_baked_network_with_parc_plugged_in_matches():
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=5).eval()
    parcnet_train.parcify(network, ["layer3.1.conv2", "layer4.1.conv2"], image_size=64)
    enliven(network.eval())
    baked = assert_same(network, (64, 96))
    assert not [each for each in baked.modules() if isinstance(each, nn.BatchNorm2d)]


def test_bake_is_exported_by_the_package():
    assert parcnet_train.bake is bake


@pytest.mark.parametrize(
    ("backbone", "fused"),
    [
        ("repvit_m0_9", True),
        pytest.param("fastvit_t8", True, marks=pytest.mark.slow),
        pytest.param("starnet_s3", False, marks=pytest.mark.slow),
    ],
)
def test_baked_branches_of_timm_match(backbone, fused):
    model = lively(backbone, "classification", "head=native")
    baked = bake(model, (64, 64))
    images = torch.rand(2, 3, 64, 64)
    (expected,), (ours,) = outputs_of(model, images), outputs_of(baked, images)
    assert (ours - expected).abs().max() < 1e-4 * expected.std()
    assert not any(module.training for module in baked.modules())
    counts = [sum(1 for m in each.modules() if isinstance(m, nn.Conv2d)) for each in (model, baked)]
    assert (counts[1] < counts[0]) == fused


def test_baked_network_of_timm_itself_matches():
    torch.manual_seed(0)
    network = timm.create_model("repvit_m0_9", num_classes=5).eval()
    baked = bake(network, (64, 64))
    images = torch.rand(1, 3, 64, 64)
    (expected,), (ours,) = outputs_of(network, images), outputs_of(baked, images)
    assert (ours - expected).abs().max() < 1e-4 * expected.std()

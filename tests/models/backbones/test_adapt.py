"""Backbones from torchvision match the originals, also with dilation; ParC matches the release."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

import parcnet_train
from parcnet_train.build import build_backbone, build_model, meta_device
from parcnet_train.models.backbones.adapt import Normalize, NormalizingBackbone
from parcnet_train.models.base import Level
from parcnet_train.models.layers.parc import CircularConv, ParallelParC, PositionEmbedding
from running import composed, run
from torchvision_networks import assert_close, normalize, randomize, with_stride

HALF_WIDTH = [CNBlockConfig(48, 96, 3), CNBlockConfig(96, 192, 3), CNBlockConfig(192, 384, 9)]


# torchvision's network, and our names of its parameters outside the backbone.
THEIRS = {
    "resnet50": (torchvision.models.resnet50, {"fc": "head.linear"}),
    "mobilenetv2": (
        torchvision.models.mobilenet_v2,
        {
            "features.18.0": "head.expand.conv",
            "features.18.1": "head.expand.norm",
            "classifier.1": "head.linear",
        },
    ),
    "convnext_xt": (
        lambda: ConvNeXt([*HALF_WIDTH, CNBlockConfig(384, None, 3)]),
        {"classifier.0": "head.norm", "classifier.2": "head.linear"},
    ),
}


def ours_from(name, state):
    """Load torchvision's state dict into our model; only names of the head differ."""
    _, outside = THEIRS[name]
    renamed = {}
    for key, value in state.items():
        prefix, _, last = key.rpartition(".")
        ours = outside.get(prefix)
        renamed[f"{ours}.{last}" if ours else f"backbone.network.{key}"] = value
    model = build_model(composed(f"backbone={name}"), num_classes=1000)
    model.load_state_dict(renamed)  # strict
    return model.eval()


@pytest.mark.parametrize("name", THEIRS)
def test_plain_networks_match_torchvision(name):
    torch.manual_seed(0)
    theirs = randomize(THEIRS[name][0]())
    ours = ours_from(name, theirs.state_dict())
    for size in ((224, 224), (96, 160)):
        images = torch.rand(2, 3, *size)
        with torch.inference_mode():
            expected = theirs(normalize(images))
            assert expected.std() > 0.01
            assert_close(ours(images), expected)


def test_normalize_matches_torchvision_and_is_not_in_the_state_dict():
    images = torch.rand(2, 3, 4, 5)
    expected = torchvision.transforms.functional.normalize(images, (0.1, 0.2, 0.3), (1.0, 0.5, 2))
    module = Normalize((0.1, 0.2, 0.3), (1.0, 0.5, 2))
    torch.testing.assert_close(module(images), expected)
    assert module.state_dict() == {}


# timm's versions of the same networks, which support dilation too.
TIMMS = {
    "mobilenetv2": lambda stride: timm.create_model("mobilenetv2_100", output_stride=stride),
    "convnext_xt": lambda stride: timm.models.ConvNeXt(
        depths=(3, 3, 9, 3), dims=(48, 96, 192, 384), output_stride=stride
    ),
}


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", TIMMS)
def test_other_dilated_networks_match_timm(name, output_stride):
    torch.manual_seed(0)
    ours = randomize(with_stride(name, output_stride))
    theirs = TIMMS[name](output_stride).eval()
    state = ours.network.state_dict()
    # Both libraries define their layers in the same order, up to the classifier.
    of_head = ("head", "conv_head", "bn2", "classifier")
    shapes = {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith(of_head)}
    pairs = zip(shapes.items(), state.values(), strict=True)
    theirs.load_state_dict({k: v.reshape(shape) for (k, shape), v in pairs}, strict=False)
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        expected = theirs.forward_intermediates(normalize(images), intermediates_only=True)[-1]
        assert_close(ours(images)[-1], expected)


# Authors' implementation: meta length, kernels per channel, embedding.
RELEASED = {
    "parc_resnet50": {
        "layer3.3.conv2": (14, 128, True),
        "layer3.4.conv2": (14, 128, True),
        "layer3.5.conv2": (14, 128, True),
        "layer4.2.conv2": (7, 256, True),
    },
    "parc_mobilenetv2": {
        "features.9.conv.1.0": (14, 1, True),
        "features.10.conv.1.0": (14, 1, False),
        "features.13.conv.1.0": (14, 1, True),
        "features.16.conv.1.0": (7, 1, True),
    },
    "parc_convnext_xt": {
        "features.5.6.block.0": (14, 1, True),
        "features.5.7.block.0": (14, 1, True),
        "features.5.8.block.0": (14, 1, True),
        "features.7.2.block.0": (7, 1, True),
    },
}


@pytest.mark.parametrize("output_stride", [8, 32])
@pytest.mark.parametrize("name", RELEASED)
def test_parc_replaces_the_same_layers_as_the_release(name, output_stride):
    with meta_device():
        network = with_stride(name, output_stride).network
    found = {}
    for place, module in network.named_modules():
        if isinstance(module, ParallelParC):
            embedding, conv = module.height
            half, inputs, length, _ = conv.weight.shape
            assert module.width[1].weight.shape == (half, inputs, 1, length)
            assert conv.bias.shape == (half,)
            found[place] = (length, inputs, isinstance(embedding, PositionEmbedding))
    assert found == RELEASED[name]


def fan_out(kernel):
    """Return the standard deviation of Kaiming normal initialization, `fan_out` as in torch."""
    return (2 / (kernel.shape[0] * max(kernel.shape[2:]))) ** 0.5


# Authors' implementation: standard deviation of a ParC kernel, largest bias.
STARTS = {
    "parc_resnet50": (fan_out, lambda kernel: kernel[0].numel() ** -0.5),
    "parc_mobilenetv2": (fan_out, lambda kernel: 0.0),
    "parc_convnext_xt": (lambda kernel: 0.02, lambda kernel: 0.0),
}


@pytest.mark.parametrize("name", STARTS)
def test_initial_weights_of_parc_match_the_release(name):
    torch.manual_seed(0)
    backbone = build_backbone(composed(f"backbone={name}"))
    std_of, bound_of = STARTS[name]
    for module in backbone.modules():
        if isinstance(module, CircularConv):
            kernel, bias = module.weight.detach(), module.bias.detach()
            assert kernel.std().item() == pytest.approx(std_of(kernel), rel=0.1)
            bound = bound_of(kernel)
            assert bias.abs().max().item() == pytest.approx(bound, rel=0.1)
        elif isinstance(module, PositionEmbedding):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("name", ["resnet50", "parc_convnext_xt"])
def test_networks_can_be_exported(name):
    torch.manual_seed(0)
    backbone = build_backbone(composed(f"backbone={name}")).eval()
    images = torch.rand(1, 3, 64, 96)
    exported = torch.export.export(backbone, (images,)).module()
    for got, expected in zip(exported(images), backbone(images), strict=True):
        assert_close(got, expected)


def test_parc_layers_are_set_by_the_configuration():
    values = composed(
        "backbone=resnet50",
        'backbone.parc_layers=["layer2.[123].conv2"]',
        "backbone.position_embeddings=false",
        "backbone.meta_size=[128,192]",
    )
    backbone = build_backbone(values)
    layers = [m for m in backbone.modules() if isinstance(m, ParallelParC)]
    assert [tuple(m.height[1].weight.shape[2:]) for m in layers] == [(16, 1)] * 3
    assert [tuple(m.width[1].weight.shape[2:]) for m in layers] == [(1, 24)] * 3
    assert all(isinstance(m.height[0], nn.Identity) for m in layers)


def test_a_checkpoint_keeps_the_normalization_of_its_training(tmp_path):
    out = tmp_path / "run"
    overrides = ("debug=tiny", "backbone=parc_mobilenetv2", "backbone.mean=[0.1,0.2,0.3]")
    run([*overrides, "recipe.image_size=32", f"paths.runs={tmp_path}"], out)
    model = parcnet_train.load(out / "checkpoints" / "best.ckpt")
    assert model.backbone.normalize.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert not any("normalize" in key for key in model.state_dict())
    logits = model(torch.zeros(1, 3, 64, 96, dtype=torch.uint8))
    assert logits.shape == (1, 10)
    assert logits.isfinite().all()


def test_backbone_normalizes_before_its_first_stage():
    backbone = NormalizingBackbone((0.5, 0.25, 0.0), (0.5, 2.0, 1.0))
    backbone.stages = [nn.Identity()]
    backbone.levels = (Level(1, 3),)
    (got,) = backbone(torch.full((1, 3, 2, 2), 1.0))
    assert torch.equal(got[0, :, 0, 0], torch.tensor([1.0, 0.375, 1.0]))
    assert list(backbone.state_dict()) == []

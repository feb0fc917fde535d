"""Networks of torchvision: they match torchvision's own, and invalid arguments are errors."""

import pytest
import torch
import torchvision

from parcnet_train.errors import ConfigError
from parcnet_train.models.backbones.torchvision import Torchvision
from parcnet_train.models.heads.classifier import Classifier
from parcnet_train.models.heads.native import Native
from parcnet_train.models.model import Model

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
# ViT-C of arXiv 2106.14881 (Xiao et al.), in small.
VIT_C = {
    "image_size": 32,
    "patch_size": 16,
    "num_layers": 2,
    "num_heads": 3,
    "hidden_dim": 192,
    "mlp_dim": 576,
    "conv_stem_configs": [
        {"out_channels": channels, "kernel_size": 3, "stride": 2} for channels in (24, 48, 96, 192)
    ],
}


def native_model(name, num_classes=1000, **options):
    """torchvision's network as `head=native` builds it."""
    backbone = Torchvision(name, options=options, native=True)
    return Model(backbone, Native(backbone.levels, num_classes, backbone.classifier(num_classes)))


@pytest.mark.parametrize("name", ["resnet18"])
def test_maps_and_classifier_match_torchvision(name):
    theirs = torchvision.models.get_model(name).eval()
    backbone = Torchvision(name)
    model = Model(backbone, Classifier(backbone.levels, 1000)).eval()
    state = theirs.state_dict()
    backbone.network.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
    model.head.linear.load_state_dict(theirs.fc.state_dict())
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        expected = theirs((images - MEAN) / STD)
        assert (model(images) - expected).abs().max() < 1e-5 * expected.std()


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_native_network_is_torchvisions_own(name):
    theirs = torchvision.models.get_model(name).eval()
    model = native_model(name).eval()
    (classifier,) = model.backbone.classifier_names
    state = theirs.state_dict()
    own = {k: v for k, v in state.items() if not k.startswith(f"{classifier}.")}
    model.backbone.network.load_state_dict(own)
    model.head.classifier.load_state_dict(theirs.get_submodule(classifier).state_dict())
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        expected = theirs((images - MEAN) / STD)
        assert (model(images) - expected).abs().max() < 1e-6 * expected.std()
    assert len(model.backbone.stage_parameters()) == 1


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("shufflenet_v2_x2_0", [2, 4, 8, 16, 32]),
        pytest.param("regnet_y_400mf", [2, 4, 8, 16, 32], marks=pytest.mark.slow),
        ("vgg11", [1, 2, 4, 8, 16, 32]),
        ("swin_t", [4, 8, 16, 32]),  # torchvision's maps are (B, H, W, C)
        pytest.param("googlenet", [2, 4, 8, 16, 32], marks=pytest.mark.slow),
    ],
)
def test_levels_match_the_maps_for_every_kind_of_network(name, strides):
    with torch.device("meta"):
        backbone = Torchvision(name)
        maps = backbone.eval()(torch.empty(2, 3, 64, 96))
    assert [level.stride for level in backbone.levels] == strides
    told = [(2, lv.channels, 64 // lv.stride, 96 // lv.stride) for lv in backbone.levels]
    assert [tuple(each.shape) for each in maps] == told


def test_parameters_belong_to_the_first_map_that_depends_on_them():
    backbone = Torchvision("resnet18")
    counts = [sum(each.numel() for each in stage) for stage in backbone.stage_parameters()]
    layers = (getattr(backbone.network, f"layer{number}") for number in range(1, 5))
    expected = [sum(each.numel() for each in layer.parameters()) for layer in layers]
    assert counts == [3 * 64 * 49 + 2 * 64, *expected]


def test_output_stride_of_a_resnet():
    with torch.device("meta"):
        backbone = Torchvision("resnet50", output_stride=8).eval()
        last = backbone(torch.empty(1, 3, 64, 96))[-1]
    assert [level.stride for level in backbone.levels] == [2, 4, 8]
    assert last.shape == (1, 2048, 8, 12)


def test_vision_transformer_with_a_convolutional_stem():
    theirs = native_model("VisionTransformer", **VIT_C)
    assert theirs.backbone.fixed_size == (32, 32)
    assert len(theirs.backbone.network.conv_proj) == 5
    assert theirs(torch.rand(2, 3, 32, 32)).shape == (2, 1000)
    large = {**VIT_C, "image_size": 224, "num_layers": 11}
    with torch.device("meta"):
        model = native_model("VisionTransformer", **large)
    assert sum(each.numel() for each in model.parameters()) == 4_567_936


def test_no_weights_are_downloaded(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("no network is needed"))
    with torch.device("meta"):
        Torchvision("resnet18")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet19"}, r"name=resnet19: torchvision .* has no such network; .*: resnet18"),
        ({"name": "vit_b_16"}, r"name=vit_b_16: .* no feature maps\. Fix: head=native$"),
        (
            {"name": "resnet18", "output_stride": 8},
            r"output_stride=8: torchvision cannot build resnet18 .*Dilation.* Fix: use 32",
        ),
        ({"name": "vgg11", "output_stride": 16}, r"output_stride=16: .*vgg11.* backbone=timm$"),
        ({"name": "vgg11", "options": {"widht": 1}}, r"options={widht: 1}: .*vgg11 \(.*widht"),
        ({"name": "vgg11", "options": {"num_classes": 5}}, r"options\.num_classes=5: .*leave it"),
        (
            {"name": "squeezenet1_1", "native": True},
            r"head=native: .*squeezenet1_1 is not a linear layer\. Fix: head=classifier$",
        ),
    ],
)
def test_invalid_arguments_give_one_line(arguments, message):
    with pytest.raises(ConfigError, match=message) as caught, torch.device("meta"):
        Torchvision(**arguments)
    assert len(str(caught.value).splitlines()) == 1

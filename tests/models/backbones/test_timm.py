"""Networks of timm: they match timm's own, and invalid arguments are errors."""

import sys

import pytest
import timm
import torch

from faults import assert_one_is
from parcnet_train.errors import ConfigError
from parcnet_train.models.backbones.timm import Timm
from parcnet_train.models.heads.classifier import Classifier
from parcnet_train.models.heads.native import Native
from parcnet_train.models.model import Model
from running import configure


def test_default_network_matches_timm():
    torch.manual_seed(0)
    theirs = timm.create_model("mobilenetv1_100").eval()
    backbone = Timm("mobilenetv1_100")
    model = Model(backbone, Classifier(backbone.levels, 1000)).eval()
    state = theirs.state_dict()
    backbone.network.load_state_dict({k: v for k, v in state.items() if "classifier" not in k})
    model.head.linear.load_state_dict(theirs.classifier.state_dict())
    images = torch.rand(2, 3, 96, 160)
    mean, std = (torch.tensor(theirs.pretrained_cfg[k])[:, None, None] for k in ("mean", "std"))
    with torch.inference_mode():
        expected = theirs((images - mean) / std)
        assert (model(images) - expected).abs().max() < 1e-4 * expected.std()
    assert mean.flatten().tolist() == [0.5] * 3


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("swin_tiny_patch4_window7_224", (224, 224)),  # timm's maps are (B, H, W, C)
        ("deit_tiny_patch16_224", (224, 224)),  # all levels have the same stride
        ("edgenext_xx_small", (64, 96)),
        ("fastvit_t8.apple_in1k", (64, 96)),
    ],
)
def test_levels_match_the_maps_for_every_kind_of_network(name, size):
    with torch.device("meta"):
        backbone = Timm(name)
        maps = backbone.eval()(torch.empty(2, 3, *size))
    told = [(2, lv.channels, size[0] // lv.stride, size[1] // lv.stride) for lv in backbone.levels]
    assert [tuple(each.shape) for each in maps] == told


def test_no_pretrained_weights_are_downloaded(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("no network is needed"))
    with torch.device("meta"):
        Timm("resnet18.a1_in1k")


@pytest.mark.parametrize(
    ("name", "output_stride", "message"),
    [
        ("mobilenetv1_10", 32, "has no such network; .*; nearest: mobilenetv1_100"),
        ("zzz", 32, r"backbone\.name=zzz: timm [\d.]+ has no such network; .*list_models\(\)$"),
        ("hf-hub:timm/resnet18", 32, "has no such network"),
        ("resnet18.zzz", 32, r"backbone\.name=resnet18\.zzz: timm .*\(Invalid pretr"),
        ("edgenext_xx_small", 16, r"output_stride=16: timm .*edgenext.* Fix: use 32"),
        ("vgg11", 8, r"output_stride=8: timm .*vgg11.*\(AssertionError\)"),
    ],
)
def test_invalid_names_and_strides_give_one_line(name, output_stride, message):
    with pytest.raises(ConfigError, match=message) as caught, torch.device("meta"):
        Timm(name, output_stride)
    assert len(str(caught.value).splitlines()) == 1


def test_missing_timm_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"name=resnet18: .*timm.*: pip install timm$"):
        Timm("resnet18")


def native_model(name, num_classes=1000, **options):
    """timm's network as `head=native` builds it."""
    backbone = Timm(name, options=options, native=True)
    return Model(backbone, Native(backbone.levels, num_classes, backbone.classifier(num_classes)))


def load_timms(model, state):
    """Load timm's own state dict; the names of its classifiers are those of the head."""
    names = model.backbone.classifier_names
    own = {k: v for k, v in state.items() if not k.startswith(tuple(f"{n}." for n in names))}
    rest = {k: v for k, v in state.items() if k not in own}
    if len(names) == 1:
        rest = {k.removeprefix(f"{names[0]}."): v for k, v in rest.items()}
    model.backbone.network.load_state_dict(own)
    model.head.classifier.load_state_dict(rest)


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("mobilenetv3_large_100", (64, 96), {}),  # a layer between pooling and classifier
        ("deit_tiny_patch16_224", (32, 64), {"depth": 2, "img_size": [32, 64]}),
        # Two classifiers, which read the same vector and different ones.
        ("levit_128s", (224, 224), {}),
        ("deit_tiny_distilled_patch16_224", (32, 64), {"depth": 2, "img_size": [32, 64]}),
        ("repvit_m0_9", (64, 64), {}),
    ],
)
def test_native_network_is_timms_own(name, size, options):
    theirs = timm.create_model(name, **options).eval()
    model = native_model(name, **options).eval()
    load_timms(model, theirs.state_dict())
    images = torch.rand(2, 3, *size)
    mean, std = (torch.tensor(theirs.pretrained_cfg[k])[:, None, None] for k in ("mean", "std"))
    with torch.inference_mode():
        expected = theirs((images - mean) / std)
        assert (model(images) - expected).abs().max() < 1e-6 * expected.std()
    assert len(model.backbone.stage_parameters()) == 1


def test_native_parameters_are_timms():
    with torch.device("meta"):
        model = native_model("levit_128s")
    assert sum(each.numel() for each in model.parameters()) == 7_777_058


def test_native_classifier_has_timms_initial_weights():
    torch.manual_seed(0)
    head = Timm("deit_tiny_patch16_224", options={"depth": 1}, native=True).classifier(7)
    assert head.weight.shape == (7, 192)
    # PyTorch's own would be uniform, up to 1 / sqrt(192).
    assert head.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert head.bias.abs().max() == 0


def test_options_change_the_network():
    swin = {"embed_dim": 48, "strict_img_size": False}
    with torch.device("meta"):
        model = native_model("swin_tiny_patch4_window7_224", **swin)
    assert sum(each.numel() for each in model.parameters()) == 7_299_634
    assert model.backbone.fixed_size is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embed_dimm": 48}, r"options={embed_dimm: 48}: timm cannot build resnet18 \(.*embed_dim"),
        ({"num_classes": 5}, r"backbone\.options\.num_classes=5: .* Fix: leave it out; the data"),
        ({"pretrained": True}, r"backbone\.options\.pretrained=True: .*backbone\.weights=library"),
    ],
)
@pytest.mark.parametrize("native", [False, True])
def test_invalid_options_give_one_line(options, message, native):
    with pytest.raises(ConfigError, match=message) as caught, torch.device("meta"):
        Timm("resnet18", options=options, native=native)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("resnet18", {}, None),
        ("deit_tiny_patch16_224", {}, (224, 224)),
        ("deit_tiny_patch16_224", {"img_size": [64, 96]}, (64, 96)),
        ("deit_tiny_patch16_224", {"dynamic_img_size": True}, None),
        ("twins_pcpvt_small", {}, None),  # takes other sizes, although timm says that it does not
    ],
)
def test_fixed_size_is_timms(name, options, size):
    with torch.device("meta"):
        assert Timm(name, options=options).fixed_size == size


def test_other_sizes_than_the_fixed_one_are_one_fault():
    overrides = ["backbone=timm", "backbone.name=deit_tiny_patch16_224", "recipe.multi_scale=null"]
    faults = configure([*overrides, "recipe.image_size=64"])[1]
    assert len(faults) == 1
    message = "recipe.image_size=64: expected 224, the only size … Fix: recipe.image_size=224"
    assert_one_is(message, faults)
    assert configure([*overrides, "head=native", "recipe.image_size=224"])[1] == []


def test_buffers_have_the_shapes_of_a_network_that_has_run():
    backbone = Timm("convit_tiny", options={"depth": 3}, native=True).train()
    shapes = [buffer.shape for buffer in backbone.buffers()]
    backbone(torch.rand(1, 3, 224, 224))
    assert [buffer.shape for buffer in backbone.buffers()] == shapes
    assert all(module.training for module in backbone.modules())


def test_changed_weights_are_used_in_the_next_evaluation():
    torch.manual_seed(0)
    backbone = Timm("levit_128s", native=True).eval()
    images = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        backbone(images)
    for name, parameter in backbone.named_parameters():
        if name.endswith("attention_biases"):
            torch.nn.init.normal_(parameter)
    with torch.inference_mode():
        (ours,) = backbone(images)
        fresh = Timm("levit_128s", native=True).eval()
        fresh.load_state_dict(backbone.state_dict())
        (expected,) = fresh(images)
    assert torch.equal(ours, expected)


def test_multi_scale_training_at_a_fixed_size_is_one_fault():
    overrides = ["backbone=timm", "backbone.name=deit_tiny_patch16_224", "recipe.image_size=224"]
    message = "recipe.multi_scale: … only images of 224x224 … Fix: recipe.multi_scale=null"
    faults = configure([*overrides, "data=demo", "recipe=imagenet_300e"])[1]
    assert len(faults) == 1
    assert_one_is(message, faults)


def without_maps(monkeypatch):
    """Let timm refuse to extract features, as older versions do for some networks."""
    create = timm.create_model

    def refuse(name, features_only=False, **arguments):
        if features_only:
            raise RuntimeError("features_only not implemented for this network")
        return create(name, **arguments)

    monkeypatch.setattr(timm, "create_model", refuse)


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", (64, 96)), ("swin_tiny_patch4_window7_224", (224, 224))]
)
def test_network_without_feature_maps_has_its_last_map(monkeypatch, name, size):
    without_maps(monkeypatch)
    with torch.device("meta"):
        backbone = Timm(name).eval()
        (last,) = backbone(torch.empty(2, 3, *size))
    (level,) = backbone.levels
    assert level.stride == 32
    assert last.shape == (2, level.channels, size[0] // 32, size[1] // 32)


def test_network_without_any_map_says_to_use_its_own_classifier(monkeypatch):
    without_maps(monkeypatch)
    message = r"name=deit_tiny_patch16_224: timm has no feature maps .* Fix: head=native$"
    with pytest.raises(ConfigError, match=message), torch.device("meta"):
        Timm("deit_tiny_patch16_224")


def test_classifier_that_cannot_be_separated_is_refused():
    message = r"head=native: .* crossvit_9_240 .* head=classifier$"
    with pytest.raises(ConfigError, match=message), torch.device("meta"):
        Timm("crossvit_9_240", native=True)


@pytest.mark.parametrize(
    "name", ["cache_dir", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"]
)
def test_options_that_name_files_are_refused(name):
    with pytest.raises(ConfigError, match=rf"^backbone\.options\.{name}=.*backbone\.pretrained="):
        Timm("test_efficientnet", options={name: "planted"})

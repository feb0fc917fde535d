"""Networks of timm: they match timm's own, and invalid arguments are errors."""

import sys

import pytest
import timm
import torch

from parcnet_train.errors import ConfigError
from parcnet_train.models.backbones.timm import Timm
from parcnet_train.models.heads.classifier import Classifier
from parcnet_train.models.model import Model


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

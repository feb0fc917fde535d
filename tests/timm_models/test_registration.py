"""Names, configurations and weights of the registered networks."""

import importlib
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

import parcnet_train
from parcnet_train import timm_models
from parcnet_train.data.classification.transforms import RESIZE_RATIO
from parcnet_train.errors import ConfigError
from running import BACKBONES, composed

ROOT = Path(__file__).parents[2]
LARGER_SLOWLY = [
    name if name == "parcnet_xs" else pytest.param(name, marks=pytest.mark.slow)
    for name in timm_models.NETWORKS
]
TINY_NETWORK = {"depths": [1, 1, 1], "num_classes": 10}  # the backbone of `trained`


def test_every_backbone_with_parc_is_registered_under_its_name():
    assert timm.list_models(module="timm_models") == timm.list_models("parc*")
    assert set(timm.list_models("parc*")) == {n for n in BACKBONES if n.startswith("parc")}


@pytest.mark.parametrize("name", LARGER_SLOWLY)
def test_registration_matches_the_network(name):
    network = timm.create_model(name, device="meta").eval()
    cfg = network.default_cfg
    assert network.pretrained_cfg is cfg
    first = next(n for n, each in network.named_modules() if isinstance(each, nn.Conv2d))
    assert cfg["first_conv"] == first
    assert network.get_submodule(cfg["classifier"]) is network.get_classifier()
    assert network.num_classes == cfg["num_classes"] == 1000
    features = network.forward_features(torch.empty(1, *cfg["input_size"], device="meta"))
    assert tuple(features.shape[2:]) == cfg["pool_size"]
    assert len(network.feature_info) == timm_models.NETWORKS[name].levels


@pytest.mark.parametrize("name", LARGER_SLOWLY)
def test_arguments_of_the_backbone_come_from_its_file(name):
    assert timm_models.settings_of(name) == composed(f"backbone={name}")["backbone"]


def test_pipeline_of_timm_gives_images_between_0_and_1():
    network = timm.create_model("parc_convnext_xt", device="meta")
    config = timm.data.resolve_data_config(model=network)
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[:, 200:] = 255
    image = timm.data.create_transform(**config)(Image.fromarray(pixels))
    assert image.shape == (3, 224, 224)
    assert (image.min(), image.max()) == (0, 1)
    assert config["crop_pct"] == pytest.approx(1 / RESIZE_RATIO)
    resize = timm.data.create_transform(**config).transforms[0]
    assert resize.size == 252


def test_checkpoints_give_the_same_logits_through_timm_and_through_load(trained, best):
    model = parcnet_train.load(best)
    network = timm.create_model("parcnet_xs", checkpoint_path=best, **TINY_NETWORK).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(network(images), model(images))
    network.load_state_dict(model.state_dict())


def test_checkpoints_initialize_networks_with_other_classes(best):
    model = parcnet_train.load(best)
    arguments = {"pretrained": True, "depths": [1, 1, 1]}
    overlay = {"file": str(best), "num_classes": 10}
    same = timm.create_model(
        "parcnet_xs", pretrained_cfg_overlay=overlay, num_classes=10, **arguments
    )
    other = timm.create_model(
        "parcnet_xs", pretrained_cfg_overlay=overlay, num_classes=3, **arguments
    )
    features = timm.create_model(
        "parcnet_xs", pretrained_cfg_overlay=overlay, features_only=True, **arguments
    )
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(same.eval()(images), model(images))
        expected = model.backbone(images)
        assert torch.equal(other.eval().forward_features(images), expected[-1])
        assert all(map(torch.equal, features.eval()(images), expected))


def test_networks_without_published_weights_say_so():
    with pytest.raises(RuntimeError, match="No pretrained weights exist for parcnet_xs"):
        timm.create_model("parcnet_xs", pretrained=True)


def test_torch_hub_gives_the_same_logits(best, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    network = torch.hub.load(
        str(ROOT), "parcnet_xs", source="local", checkpoint_path=best, **TINY_NETWORK
    ).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(network(images), parcnet_train.load(best)(images))


def test_torch_hub_lists_the_registered_networks(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    names = runpy.run_path(str(ROOT / "hubconf.py"))
    found = {name for name, each in names.items() if callable(each) and not name.startswith("_")}
    assert found == set(timm_models.NETWORKS)
    assert "conf/backbone/parcnet_s.yaml" in names["parcnet_s"].__doc__


def test_missing_timm_gives_one_line(monkeypatch):
    for name in [each for each in sys.modules if each.startswith("parcnet_train.timm_models")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [each for each in sys.modules if each.split(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ConfigError, match=r"^parcnet_train\.timm_models: .* Fix: pip install timm$"
    ):
        importlib.import_module("parcnet_train.timm_models")

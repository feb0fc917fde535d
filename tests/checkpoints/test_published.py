"""Weights of libraries: files and caches in the libraries' formats."""

import functools
import logging

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest
import safetensors.torch
import timm
import torch
import torchvision

from faults import assert_one_is
from parcnet_train.build import build_model
from parcnet_train.checkpoints.checkpoints import pretrained_state
from parcnet_train.checkpoints.published import (
    fitting_state,
    load_published,
    origin_of,
    published_pretrained,
    published_state,
    published_weights,
)
from parcnet_train.checkpoints.reading import KEYS
from parcnet_train.errors import CheckpointError
from parcnet_train.models.backbones.timm import Timm
from running import composed, configure, run

# The smallest network of each library; timm's are for tests.
TIMM = ("backbone=timm", "backbone.name=test_efficientnet")
TORCHVISION = ("backbone=torchvision", "backbone.name=shufflenet_v2_x0_5")
FAST = ("debug=tiny", "recipe.image_size=32", "recipe.multi_scale=null", "data=demo")


def created(overrides):
    """The library's own network."""
    if overrides is TIMM:
        return timm.create_model("test_efficientnet")
    return torchvision.models.get_model("shufflenet_v2_x0_5")


def with_weights(values, path, num_classes, origin="backbone.pretrained=FILE"):
    """A model of this package that starts from a library's file."""
    model = build_model(values, num_classes).eval()
    values["backbone"]["pretrained"] = str(path)
    load_published(model, published_state(values["backbone"], model.backbone), origin)
    return model


@pytest.mark.parametrize("overrides", [TIMM, TORCHVISION], ids=["timm", "torchvision"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_librarys_file_gives_the_librarys_logits(tmp_path, overrides, suffix, caplog):
    caplog.set_level(logging.INFO)
    torch.manual_seed(0)
    theirs, path = created(overrides).eval(), tmp_path / f"published{suffix}"
    if suffix == ".pth":
        torch.save(theirs.state_dict(), path)
    else:
        safetensors.torch.save_file(theirs.state_dict(), path)
    model = with_weights(composed(*overrides, "head=native"), path, 1000)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = theirs(model.backbone.normalize(images))
        assert torch.equal(model(images), expected)
    assert "so does its classifier" in caplog.text
    assert "interpolation" in caplog.text


def test_classifier_of_other_classes_is_left_out(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    theirs = timm.create_model("test_efficientnet")
    torch.save(
        {"state_dict_ema": {f"module.{k}": v for k, v in theirs.state_dict().items()}},
        file := tmp_path / "a.pth",
    )
    values = composed(*TIMM, "head=native")
    model = with_weights(values, file, 7)
    assert torch.equal(model.backbone.network.conv_stem.weight, theirs.conv_stem.weight)
    assert model.head.classifier.weight.shape[0] == 7
    assert "its classifier is left out" in caplog.text
    assert "FILE: taken from state_dict_ema of the training checkpoint, prefix mod" in caplog.text


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "densenet121"])
def test_maps_take_the_weights_of_the_whole_network(name):
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
        backbone = Timm(name)
    own, _ = backbone.adopt(state)
    expected = {key: value.shape for key, value in backbone.state_dict().items()}
    assert {key: value.shape for key, value in own.items()} == expected
    names = [key.partition(".")[2].removeprefix("model.").replace(".", "_") for key in own]
    assert set(names) <= {key.replace(".", "_") for key in state}


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "model.", "backbone."])
def test_prefixes_of_a_librarys_names_are_removed(tmp_path, name, native, prefix):
    # For its feature maps, timm gives the names of test_vit the prefix `model.` itself.
    backbone = Timm(name, native=native)
    state = {f"{prefix}{n}": v for n, v in timm.create_model(name).state_dict().items()}
    torch.save({"model": state}, tmp_path / "a.pth")
    published = published_weights(str(tmp_path / "a.pth"), backbone, "key")
    own, _ = fitting_state(published.state, backbone, "key=FILE")
    assert own.keys() == backbone.state_dict().keys()


def test_weights_of_a_feature_network_are_read(tmp_path):
    backbone = Timm("test_vit", native=False)
    assert all(name.startswith("model.") for name in backbone.network.state_dict())
    torch.save(backbone.network.state_dict(), tmp_path / "a.pth")
    published = published_weights(str(tmp_path / "a.pth"), backbone, "key")
    own, _ = fitting_state(published.state, backbone, "key=FILE")
    assert own.keys() == backbone.state_dict().keys()


def test_training_from_a_file_starts_other_trainings(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    torch.save(created(TIMM).state_dict(), file := tmp_path / "published.pth")
    run([*FAST, *TIMM, "head=native", f"backbone.pretrained={file}"], tmp_path)
    assert f"the backbone starts from backbone.pretrained={file}: 160x160 pixels" in caplog.text
    values = composed(*TIMM, "head=classifier")
    model = build_model(values, 10)
    state, others = pretrained_state(
        str(tmp_path), model.backbone, values["choices"], values["backbone"]
    )
    model.backbone.load_state_dict(state)
    assert others == []


def test_checkpoints_and_runs_of_this_package_are_not_read_as_published(tmp_path):
    own = dict.fromkeys(KEYS)
    torch.save(own, tmp_path / "own.ckpt")
    backbone = Timm("test_efficientnet")
    assert published_pretrained(str(tmp_path / "own.ckpt"), backbone) is None
    (tmp_path / "checkpoints").mkdir()
    torch.save(own, tmp_path / "checkpoints" / "best.ckpt")
    assert published_pretrained(str(tmp_path), backbone) is None  # a run


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [*TIMM, "backbone.pretrained=FILE"],
            "backbone.pretrained=… these are not the weights of timm's test_efficientnet",
        ),
        (
            [*TIMM, "backbone.pretrained=/nowhere.pth"],
            "backbone.pretrained=/nowhere.pth … does not exist",
        ),
        (
            [*TIMM, "backbone.pretrained=FILE", "backbone.weights=library"],
            "backbone.weights=library: … names weights as well. Fix: backbone.weights=null",
        ),
        (
            [*TIMM[:1], "backbone.name=lcnet_035", "backbone.weights=library"],
            "backbone.weights=library: there are no weights of timm's lcnet_035",
        ),
        (
            [*TIMM, "backbone.pretrained=DIVERGED"],
            "backbone.pretrained=… 1 of 1 tensors have … NaN or infinite: a; … Fix: use weights …",
        ),
        ([*TIMM, "backbone.weights=mine"], "backbone.weights=mine: expected … library"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_fault_is_named(tmp_path, overrides, message):
    torch.save(created(TORCHVISION).state_dict(), file := tmp_path / "other.pth")
    torch.save({"a": torch.tensor([torch.nan])}, diverged := tmp_path / "diverged.pth")
    given = {"FILE": str(file), "DIVERGED": str(diverged)}
    overrides = (functools.reduce(lambda s, k: s.replace(k, given[k]), given, o) for o in overrides)
    faults = configure([*FAST, *overrides])[1]
    assert_one_is(message, faults)


def test_library_weights_of_torchvision_come_from_its_cache(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    theirs = created(TORCHVISION)
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    url = torchvision.models.get_model_weights("shufflenet_v2_x0_5").DEFAULT.url
    torch.save(theirs.state_dict(), cache / url.rpartition("/")[2])
    values = composed(*TORCHVISION, "backbone.weights=library")
    model = build_model(values, 10)
    state = published_state(values["backbone"], model.backbone)
    load_published(model, state, origin_of(values["backbone"]))
    assert torch.equal(
        model.backbone.network.get_submodule("conv5.0").weight, theirs.conv5[0].weight
    )
    assert "backbone.weights=library: 224x224 pixels, resized with bilinear" in caplog.text
    assert "mean [0.485, 0.456, 0.406]" in caplog.text


def test_library_weights_of_timm_come_from_its_cache(tmp_path, monkeypatch):
    theirs = timm.create_model("test_efficientnet").eval()
    folder = tmp_path / "models--timm--test_efficientnet.r160_in1k"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    safetensors.torch.save_file(theirs.state_dict(), snapshot / "model.safetensors")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.file_download.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    values = composed(*TIMM, "backbone.weights=library", "head=native")
    model = build_model(values, 1000).eval()
    load_published(
        model, published_state(values["backbone"], model.backbone), "backbone.weights=library"
    )
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model(images), theirs(model.backbone.normalize(images)))
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"weights=library: timm cannot load .*pretrained=FILE$"
    ):
        published_state(values["backbone"], model.backbone)

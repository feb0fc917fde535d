"""Folders of published weights, and names of the hub: without network, from a made-up cache."""

import json
import sys
from fnmatch import fnmatch

import huggingface_hub.constants
import pytest
import safetensors.torch
import timm
import torch

import parcnet_train
from faults import is_like
from parcnet_train.checkpoints.published import published_pretrained
from parcnet_train.errors import CheckpointError
from parcnet_train.models.backbones.timm import Timm
from parcnet_train.runs import releases
from releasing import release, write_checkpoint
from running import configure, faults_of, run

NAME = "hf-hub:owner/name"
TIMM = ("backbone=timm", "backbone.name=test_efficientnet", "debug=tiny", "recipe.image_size=32")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Empty cache of huggingface_hub, without network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    releases.snapshot_of.cache_clear()
    return tmp_path / "hub" / "models--owner--name"


def fill(cache, folder, commit="a" * 40, revision="main"):
    """Write what a download of a folder leaves in the cache."""
    (cache / "refs").mkdir(parents=True, exist_ok=True)
    (cache / "refs" / revision).write_text(commit)
    snapshot, blobs = cache / "snapshots" / commit, cache / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir(exist_ok=True)
    for file in folder.iterdir():
        blob = blobs / f"{commit[:2]}{file.name}"
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(blob)
    return snapshot


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("release")
    path = write_checkpoint(output / "a.ckpt", "classification", "recipe.image_size=32")
    return release(path, output / "run")[1]


@pytest.fixture
def of_timm(tmp_path):
    """Folder in the layout of timm, without anything of ours."""
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", num_classes=7)
    timm.models.save_for_hf(network, tmp_path / "timm", safe_serialization=True)
    return tmp_path / "timm"


def test_name_of_the_hub_is_found_in_the_cache(cache, folder):
    snapshot = fill(cache, folder)
    assert releases.located(NAME) == snapshot
    found, expected = parcnet_train.load(NAME), parcnet_train.load(folder)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(found(images), expected(images))


def test_revision_selects_a_snapshot(cache, folder):
    fill(cache, folder)
    tagged = fill(cache, folder, "b" * 40, "v1.0")
    assert releases.located(f"{NAME}@v1.0") == tagged
    assert releases.located(f"{NAME}@{'b' * 40}") == tagged


def test_actions_and_trainings_take_names_of_the_hub(cache, folder, tmp_path):
    fill(cache, folder)
    small = ["debug=tiny", "backbone=parcnet_xs", "backbone.depths=[1,1,1]"]
    assert faults_of(*small, f"backbone.pretrained={NAME}") == []
    assert faults_of("action=export", f"ckpt={NAME}", "export.verify=none") == []
    values, faults = configure(["action=export", f"ckpt={NAME}@main", "export.verify=none"])
    assert (faults, values["backbone"]["depths"]) == ([], [1, 1, 1])
    assert faults_of(*small, f"recipe.distillation={{kind: feature, teacher: '{NAME}'}}") == []


@pytest.mark.parametrize(
    "name",
    [NAME, f"{NAME}@v2", "hf-hub:", "hf-hub:a/b/c", "hf-hub:owner/name@a@b", "hf-hub:../../etc"],
)
def test_name_that_is_not_in_the_cache_is_one_line(cache, name):
    with pytest.raises(CheckpointError) as caught:
        parcnet_train.load(name)
    (line,) = str(caught.value).splitlines()
    assert is_like(line, f"ckpt={name}: … cache … downloaded ( … ) … Fix: check the name … ckpt=")


def test_missing_name_is_one_fault_of_its_key(cache):
    (fault,) = faults_of("action=export", f"ckpt={NAME}", "export.verify=none")
    assert is_like(fault, f"ckpt={NAME}: … Fix:")
    (fault,) = faults_of("debug=tiny", f"backbone.pretrained={NAME}")
    assert is_like(fault, f"backbone.pretrained={NAME}: … Fix: … backbone.pretrained=FOLDER")


def test_incomplete_folder_in_the_cache_is_no_release(cache, folder):
    snapshot = fill(cache, folder)
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="neither in the cache"):
        releases.located(NAME)


def test_missing_files_are_downloaded(cache, folder, monkeypatch):
    asked = []

    def download(repository, revision, allow_patterns, local_files_only):
        asked.append((repository, revision, local_files_only))
        if local_files_only:
            raise FileNotFoundError("nothing is cached")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert releases.located(f"{NAME}@v1") == folder
    assert asked == [("owner/name", "v1", True), ("owner/name", "v1", False)]


def test_variants_and_other_files_are_not_downloaded():
    names = ["model.safetensors", "model.fp16.safetensors", "model_old.safetensors", "config.json"]
    names += ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "pickled.bin"]
    wanted = [name for name in names if any(fnmatch(name, each) for each in releases.WANTED)]
    assert wanted == [names[0], *names[3:6]]


def test_copy_in_the_cache_that_lacks_a_shard_is_downloaded_again(
    cache, folder, monkeypatch, tmp_path
):
    partial = tmp_path / "partial"
    partial.mkdir()
    for file in folder.iterdir():
        (partial / file.name).write_bytes(file.read_bytes())
    split(partial)
    (partial / "model-00002-of-00002.safetensors").unlink()
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda *_, local_files_only, **__: str(partial if local_files_only else folder),
    )
    assert releases.located(NAME) == folder


def test_the_hub_is_asked_once_for_a_missing_name(cache, monkeypatch):
    asked = []

    def download(repository, local_files_only, **_):
        asked.append(local_files_only)
        raise FileNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for key in ("ckpt", "backbone.pretrained", "ckpt"):
        with pytest.raises(CheckpointError, match=rf"^{key}=.*no network"):
            releases.located(NAME, key)
    assert asked == [True, False]


@pytest.mark.parametrize("path", ["a" * 5000, "~no_such_user_of_this_machine/a"])
def test_path_that_cannot_be_one_is_one_line(path):
    with pytest.raises(CheckpointError, match=r"^ckpt=.*: the path cannot be read: [^\n]+$"):
        parcnet_train.load(path)


def test_folder_without_known_names_suggests_its_file(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    for content in (None, "{}"):
        if content:
            (tmp_path / "config.json").write_text(content)
        (fault,) = faults_of(*TIMM, f"backbone.pretrained={tmp_path}")
        assert is_like(
            fault,
            f"backbone.pretrained={tmp_path}: … no model.safetensors, … Fix: … "
            f"{tmp_path}/pytorch_model.bin",
        )


def test_weights_without_configuration_are_no_release(tmp_path):
    path = tmp_path / "foo.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError) as caught:
        parcnet_train.load(path)
    assert is_like(
        str(caught.value), f"ckpt={path}: … Fix: … backbone.pretrained={path}, … convert_weights.py"
    )


def test_missing_package_is_named(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"not installed\. Fix: pip install 'parcnet"):
        releases.located(NAME)


def split(folder):
    """Replace the weights of a folder by two shards and their index."""
    state = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = {f"model-0000{number + 1}-of-00002.safetensors": [] for number in (0, 1)}
    for number, name in enumerate(state):
        shards[list(shards)[number % 2]].append(name)
    for shard, names in shards.items():
        safetensors.torch.save_file({name: state[name] for name in names}, folder / shard)
    weight_map = {name: shard for shard, names in shards.items() for name in names}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("given", ["folder", "hub", "file", "shards"])
def test_networks_of_timm_start_from_folders_of_timm(given, of_timm, cache):
    expected = safetensors.torch.load_file(of_timm / "model.safetensors")
    if given == "shards":
        split(of_timm)
    if given in ("hub", "shards"):
        fill(cache, of_timm)
    path = {"folder": of_timm, "file": of_timm / "model.safetensors"}.get(given, NAME)
    found = published_pretrained(str(path), Timm("test_efficientnet")).state
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert faults_of(*TIMM, f"backbone.pretrained={path}") == []
    assert faults_of(*TIMM, "head=native", f"backbone.pretrained={path}") == []


def test_training_starts_from_a_folder_of_timm(of_timm, tmp_path, caplog):
    caplog.set_level("INFO")
    run([*TIMM, "data=demo", f"backbone.pretrained={of_timm}"], tmp_path / "run")
    assert f"the backbone starts from backbone.pretrained={of_timm}" in caplog.text


def test_damaged_folder_of_timm_is_one_line(of_timm):
    (of_timm / "model.safetensors").write_bytes(b"damaged")
    (fault,) = faults_of(*TIMM, f"backbone.pretrained={of_timm}")
    assert is_like(fault, "backbone.pretrained=… cannot be read as safetensors")


def test_own_release_of_a_network_of_timm(tmp_path):
    path = tmp_path / "a.ckpt"
    write_checkpoint(path, "classification", "head=native", network=TIMM)
    _, folder = release(path, tmp_path / "run")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(parcnet_train.load(folder)(images), parcnet_train.load(path)(images))
    assert published_pretrained(str(folder), Timm("test_efficientnet")) is None
    assert faults_of(*TIMM, f"backbone.pretrained={folder}") == []
    assert "backbone.name=test_efficientnet" in (folder / "README.md").read_text()

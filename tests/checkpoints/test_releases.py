"""Reading of releases: damaged and planted ones are refused with one line."""

import functools
import json

import pytest
import safetensors.torch
import torch

import parcnet_train
from faults import is_like
from parcnet_train.checkpoints.releases import read_release
from parcnet_train.errors import CheckpointError, UserError
from parcnet_train.runs.releases import CONFIG, OURS, WEIGHTS
from releasing import change, config_of, release, write_checkpoint
from running import faults_of


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder of a release of a classifier."""
    folder = tmp_path_factory.mktemp("whole")
    path = write_checkpoint(folder / "small.ckpt", "classification", "recipe.image_size=32")
    return release(path, folder / "run")[1]


@pytest.fixture
def folder(whole, tmp_path):
    """The same folder, whose files a test may change."""
    copy = tmp_path / "folder"
    copy.mkdir()
    for file in whole.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


NESTED = functools.reduce(lambda inner, _: [inner], range(100), [])


def refused(folder):
    """The message with which `load` refuses a folder; it has one line."""
    with pytest.raises(UserError) as caught:
        parcnet_train.load(folder)
    (line,) = str(caught.value).splitlines()
    return line


def test_content_is_that_of_a_checkpoint(folder):
    found = read_release(folder / WEIGHTS)
    names = safetensors.torch.load_file(folder / WEIGHTS)
    assert {*found["state_dict"]} == {f"model.{name}" for name in names}
    assert found["class_names"] == config_of(folder)["label_names"]
    assert found["choices"]["task"] == found["config"]["choices"]["task"] == "classification"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (WEIGHTS, "model.safetensors cannot be read: No such file"),
        (CONFIG, "config.json cannot be read: No such file … action=release"),
    ],
)
def test_missing_file_is_named(folder, name, message):
    (folder / name).unlink()
    assert is_like(refused(folder), f"ckpt={folder}: {message}")


def test_changed_weights_are_refused(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    assert is_like(refused(folder), f"ckpt={folder}: … checksum … Fix: download the folder again")


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, "", "\udcff", '{"num_classes": NaN'])
def test_config_that_is_no_json_object_is_refused(folder, text):
    (folder / CONFIG).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert is_like(refused(folder), f"ckpt={folder}: config.json is not")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"class_names": ["ant", "bee"]}, "class_names has 2 names, but num_classes is 3"),
        ({"class_names": ["ant", "bee", 3]}, "class_names has entries that are no str"),
        ({"format": 99}, "format is 99; expected 1. Fix: update parcnet-train"),
        pytest.param({"format": ["a" * 5000]}, "format is ['a", id="a long value"),
        ({"sha256": None}, "sha256 is missing"),
        ({"epoch": "first"}, "epoch is missing or invalid; expected int"),
        ({"config": {"backbone": None}}, "config.backbone is missing; expected a mapping"),
        ({"config": {"head": {}}}, "config.head._target_ is missing"),
        ({"config": {"data": "imagenet"}}, "config.data is invalid"),
        ({"config": {"data": {"image_size": [32]}}}, "config has no valid image_size"),
        ({"config": {"data": {"image_size": "32"}}}, "config has no valid image_size"),
        ({"config": {"data": {"image_size": True}}}, "config has no valid image_size"),
        ({"config": {"data": {"image_size": 10**9}}}, "config has no valid image_size"),
        ({"config": {"data": {"image_size": 32, "channels": None}}}, "config.data.channels is"),
        ({"config": {"data": {"image_size": 32, "channels": 10**30}}}, "config.data.channels is"),
        ({"config": {"seed": "${oc.env:HOME}"}}, "config has an interpolation, ${...}; expected"),
        ({"config": {"task": {"${a}": [1]}}}, "config has an interpolation, ${...}; expected"),
        ({"config": {"seed": NESTED}}, "config is nested more than 50 levels deep"),
        ({"epoch": True}, "epoch is missing or invalid; expected int"),
        ({"epoch": 10**30}, "epoch is not from -1 to"),
        ({"ema": 1}, "ema is missing or invalid; expected bool"),
        ({"category_ids": ["a"]}, "category_ids has entries that are no int"),
        ({"metrics": [1]}, "metrics is missing or invalid; expected dict | None"),
        ({"choices": {"task": None}}, "choices lacks task, backbone or head"),
        ({"choices": {"backbone": "a=["}}, "choices.backbone is missing or invalid"),
        ({"choices": {"backbone": "a,b"}}, "choices.backbone is missing or invalid"),
        ({"choices": {"data": {"a": 1}}}, "choices.data is missing or invalid"),
        ({"choices": {"recipe": ["demo"]}}, "choices.recipe is missing or invalid"),
    ],
    ids=str,
)
def test_invalid_section_is_refused(folder, values, message):
    change(folder, **values)
    found = refused(folder)
    assert is_like(found, f"ckpt={folder}: config.json: parcnet_train.{message}")
    assert len(found) < 1000


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("head", {"dropout": "x"}),
        ("backbone", {"depths": "x"}),
        ("backbone", {"depths": 3}),
        ("backbone", {"no_such_argument": 1}),
        ("head", {"_partial_": -1}),
        ("head", {"_args_": 3}),
    ],
    ids=str,
)
def test_arguments_of_any_type_are_one_line(part, values, folder):
    change(folder, config={part: config_of(folder)[OURS]["config"][part] | values})
    refused(folder)


def test_argument_of_a_wrong_type_names_the_file(folder):
    head = config_of(folder)[OURS]["config"]["head"]
    change(folder, config={"head": head | {"dropout": "x"}})
    message = "its configuration does not fit the network: … Fix: use the parcnet_train that"
    assert is_like(refused(folder), f"ckpt={folder}… {message}")
    (fault,) = faults_of(
        "debug=tiny", f"recipe.distillation={{kind: feature, teacher: '{folder}'}}"
    )
    assert is_like(fault, f"recipe.distillation.teacher={folder}: {message}")


def test_release_that_does_not_name_its_data_is_refused(folder):
    content = config_of(folder)
    del content[OURS]["choices"]["data"]
    (folder / CONFIG).write_text(json.dumps(content))
    (fault,) = faults_of("debug=tiny", "backbone=parcnet_s", f"backbone.pretrained={folder}")
    assert is_like(fault, f"backbone.pretrained={folder}: config.json: … choices.data is missing")


def test_entries_of_a_training_are_not_taken_over(folder):
    change(folder, optimizer_states=[{}], current_model_state=[1], loops={})
    assert (
        read_release(folder / WEIGHTS)
        .keys()
        .isdisjoint({"optimizer_states", "current_model_state", "loops", "format", "sha256"})
    )
    parcnet_train.load(folder, ema=False)
    faults = faults_of("action=fit", f"ckpt={folder}", "debug=tiny", "task=classification")
    assert any(is_like(each, f"ckpt={folder}… contains only weights; expected") for each in faults)


def test_classes_that_do_not_fit_the_weights_are_refused(folder):
    content = config_of(folder)
    content["num_classes"] = 2
    content[OURS]["class_names"] = ["ant", "bee"]
    (folder / CONFIG).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"wrong shape: head\.linear.*3, expected 2"):
        parcnet_train.load(folder)


def test_folder_of_timm_says_how_it_is_used(folder):
    content = config_of(folder)
    del content[OURS]
    (folder / CONFIG).write_text(json.dumps(content))
    assert is_like(refused(folder), f"… no section parcnet_train … backbone.pretrained={folder}")


ACTIONS = ("test", "export", "predict", "release")


def everything_about(action, folder):
    """The messages with which an action refuses a release."""
    given = ["input=photos"] if action == "predict" else []
    try:
        return faults_of(f"action={action}", f"ckpt={folder}", *given)
    except UserError as error:  # while its configuration is composed
        return str(error).splitlines()


@pytest.mark.parametrize(
    ("action", "part"),
    [
        *((action, part) for action in ("test", "export") for part in ("data", "task")),
        *((action, part) for action in ACTIONS for part in ("backbone", "head")),
    ],
)
def test_planted_class_is_refused_by_every_action(part, action, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planted = {"_target_": "os.system", "command": "touch planted.txt", "image_size": 32}
    change(folder, config={part: planted})
    (message,) = [each for each in everything_about(action, folder) if "input" not in each]
    assert is_like(message, f"ckpt={folder} … its {part} is os.system; expected a class of")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


WORKER = {
    "_target_": "parcnet_train.deploy.standalone.workers.Worker",
    "script": "-copen('planted.txt', 'w')",
    "runtime": "any",
    "threads": 1,
}
PLANTED = {
    "function": {"_target_": "os.system", "command": "touch planted.txt"},
    "import": {"_target_": "parcnet_train.build.torch.hub.load", "repo": "owner/name"},
    "worker": WORKER,
    "provenance": {"_target_": "parcnet_train.runs.provenance.Provenance", "output": "planted"},
    "data": {"_target_": "parcnet_train.data.demo.classification.DigitsData", "root": "planted"},
    "task": {"_target_": "parcnet_train.tasks.classification.ClassificationTask"},
}
INSIDE = {
    "backbone": "parcnet_train.models.backbones.parcnet.ParCNet",
    "head": "parcnet_train.models.heads.classifier.Classifier",
}


def inside(part, node):
    """A part of a network that is allowed, and has a node as an argument."""
    return {"_target_": INSIDE[part], "dropout": node}


@pytest.mark.parametrize("part", INSIDE)
@pytest.mark.parametrize("is_inside", [False, True], ids=["itself", "inside"])
@pytest.mark.parametrize("planted", PLANTED)
def test_planted_class_of_a_network_is_refused(
    part, is_inside, planted, folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    node = PLANTED[planted]
    change(folder, config={part: inside(part, node) if is_inside else node})
    assert is_like(refused(folder), f"ckpt={folder}… its {part} is … expected a class of a network")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("planted", ["function", "worker"])
def test_planted_class_of_a_network_is_refused_by_every_reader(
    planted, folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    change(folder, config={"head": inside("head", PLANTED[planted])})
    faults = faults_of(f"recipe.distillation={{kind: soft, teacher: '{folder}'}}")
    assert any(
        is_like(each, f"recipe.distillation.teacher={folder}: its head is … expected a class of")
        for each in faults
    )
    for action in ("export", "test"):
        (message,) = everything_about(action, folder)
        assert is_like(message, f"ckpt={folder}… its head.dropout is … expected a class of")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("part", ["data", "task"])
@pytest.mark.parametrize("is_inside", [False, True], ids=["itself", "inside"])
def test_planted_class_of_data_and_task_is_refused(part, is_inside, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    node = {"mine": WORKER} if is_inside else WORKER
    change(folder, config={part: {"image_size": 32, **node}})
    (message,) = everything_about("test", folder)
    assert is_like(message, f"ckpt={folder}… its {part}… is … expected a class of")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_a_pretrained_backbone_of_another_checksum_is_refused(folder):
    change(folder, sha256="0" * 64)
    overrides = ["debug=tiny", "backbone=parcnet_xs", "backbone.depths=[1,1,1]"]
    (fault,) = faults_of(*overrides, f"backbone.pretrained={folder}")
    assert is_like(fault, f"backbone.pretrained={folder}: … checksum … Fix:")


def test_converted_checkpoint_keeps_its_origin(tmp_path):
    path = write_checkpoint(
        tmp_path / "a.ckpt",
        epoch=-1,
        names_classes=False,
        converted={"from": "timm", "file": "weights.pt", "entry": None},
    )
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["config"]["data"]
    checkpoint["choices"]["data"] = None
    torch.save(checkpoint, path)
    _, folder = release(path, tmp_path / "run")
    card = (folder / "README.md").read_text()
    assert "converted from a file of another publisher (`weights.pt`" in card
    assert "There are no names: 3 classes." in card
    found = read_release(folder / WEIGHTS)
    assert (found["epoch"], found["names_classes"]) == (-1, False)
    parcnet_train.load(folder)

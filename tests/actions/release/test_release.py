"""`action=release`: the folder, and what it gives when it is read."""

import hashlib
import json
import re
import socket

import cv2
import huggingface_hub
import numpy as np
import pytest
import timm
import torch
import yaml

import parcnet_train
from documentation import RESULTS
from faults import assert_one_is
from parcnet_train.actions.release.private import published_config, teacher_of
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.runs.directories import checkpoint_in
from parcnet_train.timm_models import NETWORKS
from predicting import photo
from releasing import NAMES, SMALL, config_of, release, write_checkpoint
from running import composed, faults_of, run

EVALUATE = ("action=test", "debug=tiny", "task.pictures=0")
TASKS = ("classification", "detection", "segmentation")


@pytest.fixture(scope="module", params=TASKS)
def released(request, tmp_path_factory):
    """Task, checkpoint, results and folder of a release."""
    folder = tmp_path_factory.mktemp(request.param)
    own = {"classification": "data.channels=3", "detection": "data.keep_aspect=true"}
    more = [own.get(request.param, "task.enlarge=bilinear"), "recipe.image_size=[32,64]"]
    path = write_checkpoint(folder / "small.ckpt", request.param, *more)
    return request.param, path, *release(path, folder / "run", "release.license=apache-2.0")


@pytest.fixture(scope="module")
def of_run(trained, tmp_path_factory):
    """Folder of a release of the small training."""
    return release(trained[0], tmp_path_factory.mktemp("of_run"))[1]


def test_release_gives_the_same_outputs_bit_for_bit(released):
    _, path, _, folder = released
    expected, found = parcnet_train.load(path), parcnet_train.load(str(folder))
    images = torch.rand(2, 3, 32, 64)
    with torch.no_grad():
        outputs = [
            each if isinstance(each, tuple) else (each,)
            for each in (expected(images), found(images))
        ]
    assert all(map(torch.equal, *outputs))
    assert outputs[0][0].std() > 0
    image = photo(1, 50, 40)
    first, second = (vars(model.predict(image)) for model in (expected, found))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_release_has_classes_preprocessing_and_checksum(released):
    task, _, results, folder = released
    config, card = config_of(folder), (folder / "README.md").read_text()
    ours = config["parcnet_train"]
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert ours["sha256"] == digest == results["release/sha256"]
    assert digest in card
    assert config["label_names"] == ours["class_names"] == NAMES[task]
    assert config["num_classes"] == len(NAMES[task])
    about = ours["preprocessing"]
    assert (about["image_size"], about["scale"]) == ([32, 64], 1 / 255)
    resizing = (about["resize"], about["keep_aspect"], about["crop"], about["fill"])
    assert (
        resizing
        == {
            "classification": ([36, 72], True, [32, 64], None),
            "detection": ([32, 64], True, None, 114),
            "segmentation": ([32, 64], False, None, None),
        }[task]
    )
    assert "32 pixels high and 64 pixels wide" in card
    assert {name for name in results if name not in RESULTS} == set()


def test_card_is_one_of_the_hub(released):
    task, _, _, folder = released
    card = huggingface_hub.ModelCard.load(folder / "README.md")
    assert (
        card.data.pipeline_tag
        == {
            "classification": "image-classification",
            "detection": "object-detection",
            "segmentation": "image-segmentation",
        }[task]
    )
    assert card.data.license == "apache-2.0"
    assert ("timm" in card.data.tags) == (task == "classification")
    names = ", ".join(f"`{name}`" for name in NAMES[task])
    assert f"In the order of the outputs: {names}." in card.text
    assert "None are recorded" in card.text


def test_timm_reads_a_release(of_run, trained):
    ours = parcnet_train.load(trained[0])
    theirs = timm.create_model(f"local-dir:{of_run}", pretrained=True).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), ours(images))
    assert theirs.num_features == config_of(of_run)["num_features"]
    assert theirs.pretrained_cfg["label_names"] == [str(digit) for digit in range(10)]
    prepared = timm.data.resolve_model_data_config(theirs)
    assert (*prepared["input_size"],) == (3, 32, 32)
    assert (*prepared["mean"], *prepared["std"]) == (0, 0, 0, 1, 1, 1)
    assert (prepared["crop_pct"], prepared["interpolation"]) == (8 / 9, "bilinear")


@pytest.mark.parametrize(
    "network",
    [
        (*SMALL, "data.channels=1", "backbone.fusion=add"),
        *(
            pytest.param((f"backbone={name}",), marks=pytest.mark.slow)
            for name in NETWORKS
            if name != "parcnet_xs"
        ),
    ],
    ids=" ".join,
)
def test_timm_reads_a_release_of_other_networks(network, tmp_path):
    path = write_checkpoint(tmp_path / "small.ckpt", network=network)
    model, folder = parcnet_train.load(path), release(path, tmp_path / "run")[1]
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.rand(2, model.in_channels, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), model(images))


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_release_of_a_dense_task_is_unknown_to_timm(task, tmp_path):
    path = write_checkpoint(tmp_path / "small.ckpt", task)
    results, folder = release(path, tmp_path / "run")
    assert "pretrained_cfg" not in config_of(folder)
    assert not timm.is_model(results["release/architecture"])


def test_release_of_a_run_has_its_metrics_and_provenance(of_run, trained):
    measured, ours = trained[1], config_of(of_run)["parcnet_train"]
    found = ours["metrics"]
    assert found["values"]["top1"] == measured["val/top1"]
    assert (found["metric"], found["split"], found["data"]) == ("top1", "val", "demo")
    card = huggingface_hub.ModelCard.load(of_run / "README.md")
    values = {each.metric_name: each.metric_value for each in card.data.eval_results}
    assert values["top-1 accuracy"] == measured["val/top1"]
    assert card.data.eval_results[0].dataset_split == "validation"
    assert f"| top-1 accuracy | {100 * measured['val/top1']:.2f} % |" in card.text
    assert ours["provenance"]["trained"]["packages"]["torch"] == torch.__version__
    assert (ours["ema"], ours["epoch"]) == (True, read_checkpoint(checkpoint_in(of_run))["epoch"])


def test_release_tells_nothing_of_the_machine(resumable, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "made-up-host")
    file = resumable / "provenance.json"
    provenance = json.loads(file.read_text())
    provenance["hardware"]["host"] = "made-up-host"
    provenance["sessions"][-1]["ended"] = "2026-01-02T03:04:05+05:30"
    provenance["config"]["data"]["root"] = "/home/made-up-user/digits"
    file.write_text(json.dumps(provenance))
    _, folder = release(resumable, tmp_path / "run")
    for name in ("README.md", "config.json"):
        text = (folder / name).read_text()
        assert "made-up" not in text
        assert str(resumable) not in text
        assert re.search(r'["\s(]([~/]|file:)/?[\w.]+/', text) is None
    ours = config_of(folder)["parcnet_train"]
    assert {"paths", "logger", "trainer", "overrides", "ckpt"}.isdisjoint(ours["config"])
    assert "root" not in ours["config"]["data"]
    assert ours["provenance"]["trained"]["ended"] == "2026-01-01T21:34:05+00:00"


SECRETS = [
    *("/secret/a", "~/secret", "../secret", "file:///secret", "lists/secret/val.txt"),
    *("C:\\Users\\secret\\x", "\\\\secret\\share", "sftp://secret@host/x", "secret@host:/data"),
    *("https://user:secret@host/x", "s3://secret", "local-dir:/home/secret/n"),
]


@pytest.mark.parametrize("secret", SECRETS)
def test_addresses_are_left_out(secret):
    config = {
        "backbone": {"pretrained": secret, "kept": 1, "inner": [{"file": secret, "kept": 2}]},
        "recipe": {"image_size": 32, secret: 1, "lists": ["kept", secret], "kept": "a.b"},
        "data": {"image_size": 32, "root": secret, "list": "secret.txt"},
        "mine": {"name": "secret"},
    }
    found = published_config(config)
    assert "secret" not in json.dumps(found)
    assert found["backbone"] == {"kept": 1, "inner": [{"kept": 2}]}
    assert found["recipe"] == {"image_size": 32, "kept": "a.b"}
    assert found["data"] == {"image_size": 32}


def test_files_of_the_training_are_left_out(tmp_path):
    config = composed("task=classification", "debug=tiny", *SMALL)
    config["backbone"]["pretrained"] = "/secret/weights.ckpt"
    config["data"].update(root="../secret/flowers", val_dir="/secret/val", lists=["/secret/a"])
    config["choices"]["data"] = "imagefolder"
    config["recipe"]["distillation"] = {"teacher": "/secret/teacher", "kind": "soft"}
    path = write_checkpoint(tmp_path / "a.ckpt", config=config, choices=config["choices"])
    _, folder = release(path, tmp_path / "run")
    assert all("secret" not in (folder / name).read_text() for name in ("README.md", "config.json"))
    ours = config_of(folder)["parcnet_train"]
    assert ours["distillation"] == {"kind": "soft", "teacher": "teacher"}
    assert ours["dataset"] == "flowers"
    parcnet_train.load(folder)


@pytest.mark.parametrize(
    ("teacher", "name"),
    [
        ("hf-hub:owner/name", "hf-hub:owner/name"),
        ("mobilenetv3_small_100.lamb_in1k", "mobilenetv3_small_100.lamb_in1k"),
        ("C:\\runs\\teacher.ckpt", "teacher.ckpt"),
        ("/home/alice", ""),
    ],
)
def test_name_of_a_teacher_is_published(teacher, name):
    config = {"recipe": {"distillation": {"teacher": teacher, "kind": "soft"}}}
    assert teacher_of(config) == {"teacher": name, "kind": "soft"}


def test_released_again_keeps_metrics_and_gains_a_license(of_run, tmp_path):
    _, again = release(of_run, tmp_path, "release.license=mit")
    first, second = (config_of(each)["parcnet_train"] for each in (of_run, again))
    assert second["metrics"] == first["metrics"]
    assert second["provenance"]["trained"] == first["provenance"]["trained"]
    assert (again / "model.safetensors").read_bytes() == (of_run / "model.safetensors").read_bytes()
    assert yaml.safe_load((again / "README.md").read_text().split("---")[1])["license"] == "mit"


def test_metrics_may_come_from_another_evaluation(best, of_run, tmp_path):
    evaluated = run([*EVALUATE, f"ckpt={of_run}"], tmp_path / "test")
    assert evaluated["checkpoint"] == str(of_run / "model.safetensors")
    _, folder = release(of_run, tmp_path / "run", f"release.results={tmp_path / 'test'}")
    found = config_of(folder)["parcnet_train"]["metrics"]["values"]["top1"]
    assert found == evaluated["val/top1"]
    faults = faults_of("action=release", f"ckpt={best}", f"release.results={tmp_path / 'test'}")
    assert_one_is(
        f"release.results=…: … evaluates {of_run}/model.safetensors of epoch … expected {best} "
        "of epoch … Fix: …",
        faults,
    )
    assert len(faults) == 1


def test_release_is_a_checkpoint_for_the_actions(of_run, trained, tmp_path):
    evaluated = run([*EVALUATE, f"ckpt={of_run}"], tmp_path / "test")
    assert evaluated["val/loss"] == trained[1]["val/loss"]
    photos = tmp_path / "photos"
    photos.mkdir()
    cv2.imwrite(str(photos / "a.png"), photo())
    found = run(["action=predict", f"ckpt={of_run}", f"input={photos}"], tmp_path / "predict")
    assert (found["predicted"], found["backbone"]) == (1, "parcnet_xs")
    (fault,) = faults_of("action=fit", f"ckpt={of_run}")
    assert "contains only weights" in fault
    assert f"backbone.pretrained={of_run}" in fault


def test_release_starts_a_training(of_run, trained):
    overrides = ["debug=tiny", "backbone=parcnet_xs", "backbone.depths=[1,1,1]"]
    assert faults_of(*overrides, f"backbone.pretrained={of_run}") == []
    (first, *rest) = faults_of("backbone=parcnet_s", f"backbone.pretrained={of_run}")
    assert "the checkpoint has task=classification backbone=parcnet_xs" in first
    assert rest


def test_release_needs_a_checkpoint():
    (fault,) = faults_of("action=release")
    assert "action=release needs a checkpoint" in fault

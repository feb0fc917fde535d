"""Conversion of published weights: checkpoints and errors."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import golden
import parcnet_train
from converting import SCRIPT, SETTINGS, refused
from faults import is_like
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.conversion.convert import convert
from parcnet_train.errors import ConfigError
from running import TINY, run

WHOLE = [*TINY, "backbone=mobilevit_xxs", "backbone.depths=[2,4,3]"]


@pytest.mark.slow
def test_script_writes_a_checkpoint_for_load_and_test(source, reference, image_folder, tmp_path):
    target = tmp_path / "converted.ckpt"
    options = ["--from", "timm", "--backbone", "mobilevit_xxs", "--task", "classification"]
    command = [sys.executable, str(SCRIPT), str(source), str(target), *options, "head.dropout=0.3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mobilevit_xxs for classification, 3 classes, 311 tensors" in done.stdout
    assert read_checkpoint(target)["config"]["head"]["dropout"] == 0.3
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(parcnet_train.load(target)(images), reference(images))
    # The classes of the data are not "0", "1", "2", but the checkpoint names none to compare.
    overrides = [*WHOLE, "action=test", f"ckpt={target}"]
    overrides += ["data=imagefolder", f"data.root={image_folder}"]
    results = run(overrides, tmp_path / "run")
    assert (results["status"], results["checkpoint_epoch"]) == ("done", 0)


def test_converted_checkpoint_has_the_entries_of_a_trained_one(source, tmp_path):
    convert(source, tmp_path / "converted.ckpt", **SETTINGS)
    checkpoint = read_checkpoint(tmp_path / "converted.ckpt")
    assert checkpoint["class_names"] == ["0", "1", "2"]
    assert not checkpoint["names_classes"]
    assert checkpoint["choices"]["backbone"] == "mobilevit_xxs"
    assert checkpoint["choices"]["data"] is None
    assert "data" not in checkpoint["config"]
    # No data set has changed the recipe.
    assert checkpoint["config"]["recipe"]["image_size"] == 256
    assert checkpoint["converted"] == {"from": "timm", "file": "published.pt", "entry": None}
    assert all(name.startswith("model.") for name in checkpoint["state_dict"])


@pytest.mark.slow
def test_class_names_are_read_from_a_file(source, image_folder, tmp_path):
    overrides = [*WHOLE, "action=test", "data=imagefolder"]
    overrides += [f"data.root={image_folder}", f"ckpt={tmp_path / 'named.ckpt'}"]
    classes = tmp_path / "classes.txt"
    classes.write_text("ant\nbee\ncat\n")
    convert(source, tmp_path / "named.ckpt", **SETTINGS, classes=classes)
    assert read_checkpoint(tmp_path / "named.ckpt")["class_names"] == ["ant", "bee", "cat"]
    assert run(overrides, tmp_path / "run")["status"] == "done"
    classes.write_text("ant\nbee\n")
    fault = refused(source, classes=classes)
    assert re.search(rf"classes\.txt: .*2 names; expected 3.*{source}", fault), fault
    assert "--classes nowhere.txt cannot be read" in refused(source, classes=Path("nowhere.txt"))
    classes.write_text("ant\nbee\nant\n")
    fault = refused(source, classes=classes)
    assert re.search(r"classes\.txt: .*more than once: ant; expected one", fault), fault
    classes.write_text("\ufeffänt\r\nbee\r\ncat\r\n", "utf-8")
    convert(source, tmp_path / "windows.ckpt", **SETTINGS, classes=classes)
    assert read_checkpoint(tmp_path / "windows.ckpt")["class_names"] == ["änt", "bee", "cat"]


@pytest.fixture
def detector(tmp_path):
    """File of the authors' detector for two classes and the background."""
    stored = golden.read("parcnet_s_detection")
    for key, shape, _ in stored["state_dict"]:
        if key.startswith("ssd_heads.") and shape and shape[0] in (510, 340):
            shape[0] = shape[0] // (4 + 81) * (4 + 3)
    torch.save(golden.state_dict(stored), tmp_path / "detector.pt")
    return tmp_path / "detector.pt"


DETECTOR = {"publisher": "parcnet-official", "backbone": "parcnet_s", "task": "detection"}


def test_classes_of_a_detector_include_the_background(detector, tmp_path):
    told = convert(detector, tmp_path / "numbered.ckpt", **DETECTOR)
    assert "parcnet_s for detection, 3 classes" in told
    checkpoint = read_checkpoint(tmp_path / "numbered.ckpt")
    assert (checkpoint["class_names"], checkpoint["names_classes"]) == (
        ["background", "1", "2"],
        False,
    )
    classes = tmp_path / "classes.txt"
    classes.write_text("background\nperson\ncar\n")
    convert(detector, tmp_path / "named.ckpt", **DETECTOR, classes=classes)
    names = read_checkpoint(tmp_path / "named.ckpt")["class_names"]
    assert names == ["background", "person", "car"]
    outputs = parcnet_train.load(tmp_path / "named.ckpt")(torch.rand(1, 3, 64, 96))
    assert outputs.class_logits.shape[2] == 3


@pytest.mark.parametrize("content", ["person\ncar\n", ""])
def test_first_class_of_a_detector_must_be_the_background(content, detector, tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_text(content)
    fault = refused(detector, **DETECTOR, classes=classes)
    given = "person" if content else "nothing"
    assert fault.startswith(f"--classes {classes}: the first class is {given}; expected background")


def test_detector_without_classes_is_an_error(detector):
    state = torch.load(detector)
    for name in ("weight", "bias"):
        key = f"ssd_heads.5.loc_cls_layer.block.conv.{name}"
        state[key] = state[key][:16]
    torch.save(state, detector)
    fault = refused(detector, **DETECTOR)
    assert re.search(r"no entry .*number of classes of task=detection.*--from", fault), fault


def test_first_class_of_a_segmentation_network_is_free(tmp_path):
    state = golden.state_dict(golden.read("parcnet_s_segmentation"))
    for name in ("weight", "bias"):
        key = f"seg_head.classifier.classifier.block.conv.{name}"
        state[key] = state[key][:3]
    torch.save(state, tmp_path / "published.pt")
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\n")
    settings = {**DETECTOR, "task": "segmentation", "classes": tmp_path / "classes.txt"}
    told = convert(tmp_path / "published.pt", tmp_path / "converted.ckpt", **settings)
    assert "parcnet_s for segmentation, 3 classes" in told
    assert read_checkpoint(tmp_path / "converted.ckpt")["class_names"] == ["sky", "road", "car"]
    logits = parcnet_train.load(tmp_path / "converted.ckpt")(torch.rand(1, 3, 50, 75))
    assert logits.shape == (1, 3, 50, 75)


def test_summary_names_the_entry_that_was_taken(reference, tmp_path):
    state = reference.state_dict()
    torch.save({"model_state_dict": {}, "ema_state_dict": state}, tmp_path / "published.pt")
    told = convert(tmp_path / "published.pt", tmp_path / "converted.ckpt", **SETTINGS)
    assert "taken from ema_state_dict of the training checkpoint" in told


def test_prefixes_are_removed_before_the_translation(reference, tmp_path):
    state = {f"model.module.{name}": value for name, value in reference.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "published.pt")
    told = convert(tmp_path / "published.pt", tmp_path / "converted.ckpt", **SETTINGS)
    assert "taken from state_dict of the training checkpoint, prefix model.module. removed" in told
    assert "311 tensors" in told


def test_weights_that_are_not_finite_are_not_converted(reference, tmp_path):
    state = {**reference.state_dict(), "stem.conv.weight": torch.tensor([float("nan")])}
    torch.save(state, tmp_path / "diverged.pt")
    message = refused(tmp_path / "diverged.pt")
    assert is_like(message, f"{tmp_path}/diverged.pt: 1 of 311 tensors … stem.conv.weight; … Fix:")


def test_batch_counts_may_be_missing(reference, tmp_path):
    state = {k: v for k, v in reference.state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "old.pt")
    convert(tmp_path / "old.pt", tmp_path / "old.ckpt", **SETTINGS)
    parcnet_train.load(tmp_path / "old.ckpt")


def test_missing_unexpected_and_mismatched_entries_are_listed(
    reference, tmp_path, monkeypatch, capsys
):
    state = dict(reference.state_dict())
    for name in ("weight", "bias"):
        del state[f"stages.2.1.norm.{name}"]
    del state["stem.conv.weight"]
    state["stages.9.conv.weight"] = state["another.bias"] = torch.zeros(2)
    state["head.fc.weight"] = torch.zeros(3, 7)
    for name in ("weight", "bias"):
        state[f"final_conv.bn.{name}"] = torch.zeros(5)
    torch.save(state, tmp_path / "published.pt")
    lines = refused(tmp_path / "published.pt").splitlines()
    assert lines[0].startswith(f"{tmp_path / 'published.pt'}: ")
    assert "backbone=mobilevit_xxs" in lines[0]
    assert lines[1:] == [
        "missing: backbone.stages.0.0.conv.weight",
        "missing: backbone.stages.2.1.blocks.2.{weight,bias}",
        "unexpected: stages.9.conv.weight",
        "unexpected: another.bias",
        "wrong shape: head.expand.norm.{weight,bias} (published as final_conv.bn) is 5, "
        "expected 320",
        "wrong shape: head.linear.weight (published as head.fc) is 3x7, expected 3x320",
    ]
    options = ["--from", "timm", "--backbone", "mobilevit_xxs"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "published.pt", "never.ckpt", *options])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert caught.value.code == 2
    errors = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("error: ") for line in errors[1:]] == lines[1:]
    assert all(line.startswith("error: ") for line in errors)
    assert list(tmp_path.iterdir()) == [tmp_path / "published.pt"]


def test_missing_files_existing_targets_and_own_checkpoints_are_errors(source, tmp_path):
    assert "nowhere.pt does not exist" in refused(tmp_path / "nowhere.pt")
    away = tmp_path / "nowhere" / "a.ckpt"
    assert f"{away} is in a folder that does not exist" in refused(source, target=away)
    convert(source, tmp_path / "ours.ckpt", **SETTINGS)
    fault = refused(source, target=tmp_path / "ours.ckpt")
    assert re.search(r"ours\.ckpt already exists.*another target", fault), fault
    assert "already is a checkpoint of parcnet_train" in refused(tmp_path / "ours.ckpt")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "unheard"}, r"^task=unheard: "),
        ({"backbone": "mobilevit_xx"}, r"^backbone=mobilevit_xx: .*mobilevit_xxs"),
        ({"backbone": "parcnet_s"}, r"^--from timm: .*=parcnet_s .*; expected parcnet-official$"),
        ({"overrides": ["backbone.head=2"]}, r"^backbone\.head: .*heads"),
        ({"overrides": ["backbone.dropout=0.1,0.2"]}, r"^backbone\.dropout=0\.1,0\.2\b"),
        ({"overrides": ["~data"]}, r"^data\.root: "),
        ({"overrides": ["backbone.heads=5"]}, r"backbone\.widths=.*backbone\.heads=5"),
    ],
    ids=str,
)
def test_faults_of_the_configuration_are_errors(settings, message, source):
    found = refused(source, ConfigError, **settings)
    assert re.search(message, found), found
    assert "\n" not in found


def test_full_disk_leaves_no_partial_file(source, tmp_path, monkeypatch):
    def fail(checkpoint, file):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    assert "never.ckpt cannot be written: no space left" in refused(source)


def test_safetensors_and_half_precision_files_are_converted(source, reference, tmp_path):
    save_file(
        {n: v.contiguous() for n, v in reference.state_dict().items()}, tmp_path / "a.safetensors"
    )
    convert(tmp_path / "a.safetensors", tmp_path / "a.ckpt", **SETTINGS)
    for name, value in parcnet_train.load(tmp_path / "a.ckpt").state_dict().items():
        if name == "head.linear.weight":
            assert torch.equal(value, reference.state_dict()["head.fc.weight"])
    (tmp_path / "bad.safetensors").write_bytes(b"nothing of the kind")
    assert "bad.safetensors cannot be read as safetensors" in refused(tmp_path / "bad.safetensors")
    half = {n: v.half() if v.is_floating_point() else v for n, v in reference.state_dict().items()}
    torch.save(half, tmp_path / "half.pt")
    convert(tmp_path / "half.pt", tmp_path / "half.ckpt", **SETTINGS)
    assert {p.dtype for p in parcnet_train.load(tmp_path / "half.ckpt").parameters()} == {
        torch.float32
    }

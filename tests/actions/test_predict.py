"""`action=predict`: as the evaluation has it, from the checkpoint alone, whatever the files are."""

import csv
import io
import json
import re
import subprocess
import sys

import cv2
import pytest
import torch

import parcnet_train
from documentation import RESULTS
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.errors import CheckpointError, UnreadableError
from predicting import best, changed, photo, predict, write_mixed
from running import configure


@pytest.mark.slow
def test_twenty_good_images_and_five_others(trained, tmp_path):
    folder = write_mixed(tmp_path / "photos")
    assert len(list(folder.iterdir())) == 25
    command = [sys.executable, "-m", "parcnet_train", "action=predict", f"ckpt={best(trained[0])}"]
    done = subprocess.run(
        [*command, "input=photos"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    errors = done.stderr.splitlines()
    assert len(errors) == 2, done.stderr
    assert errors[0].startswith("error: photos/truncated.jpg: image file is truncated")
    assert errors[1] == "error: photos/x.jpg: it is not an image in a supported format"
    assert "23 of 25 images" in done.stdout
    (output,) = tmp_path.glob("runs/predict/*")
    rows = json.loads((output / "predictions.json").read_text())
    assert len(rows) == 23
    assert {row["file"] for row in rows} == {
        f"photos/{path.name}" for path in folder.iterdir() if path.stem not in ("x", "truncated")
    }
    results = json.loads((output / "results.json").read_text())
    assert (results["images"], results["predicted"], results["failed"]) == (25, 23, 2)
    assert [f"error: {failure}" for failure in results["failures"]] == errors
    assert [key for key in results if f"`{key}`" not in RESULTS] == []
    with (output / "predictions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 23 * 5
    assert table[5]["rank"] == "1"
    assert float(table[5]["probability"]) == rows[1]["predictions"][0]["probability"]


def test_names_on_stdin(trained, tmp_path, monkeypatch, capsys):
    cv2.imwrite(str(tmp_path / "a b.png"), photo())
    lines = f"{tmp_path}/a b.png\n{tmp_path}/gone.png\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    with pytest.raises(SystemExit):
        predict(best(trained[0]), "-", tmp_path / "out")
    assert f"error: {tmp_path}/gone.png: No such file or directory" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 1


def test_the_limit_of_pixels_is_the_training_s_or_what_was_typed(trained, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), photo(0, 30, 40))
    cv2.imwrite(str(folder / "b.png"), photo(0, 31, 40))
    ckpt = changed(trained[0], tmp_path / "it.ckpt", max_pixels=1200)
    with pytest.raises(SystemExit) as caught:
        predict(ckpt, folder, tmp_path / "out")
    assert caught.value.code == 1
    assert re.search(r"b\.png: .*40x31.*data\.max_pixels=1200", capsys.readouterr().err)
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 1
    with pytest.raises(UnreadableError, match=r"data\.max_pixels=1200"):
        parcnet_train.load(ckpt).predict(folder / "b.png")
    results, _ = predict(ckpt, folder, tmp_path / "typed", "data.max_pixels=1240")
    assert results["predicted"] == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_a_fault_of_the_checkpoint(trained, tmp_path, value):
    cv2.imwrite(str(tmp_path / "a.png"), photo())
    checkpoint = read_checkpoint(best(trained[0]))
    for weights in (checkpoint["state_dict"], checkpoint.get("ema_state_dict") or {}):
        for values in weights.values():
            if values.is_floating_point():
                values.flatten()[0] = value
    torch.save(checkpoint, tmp_path / "it.ckpt")
    with pytest.raises(CheckpointError, match=r"ckpt=.*it\.ckpt: .*not finite"):
        predict(tmp_path / "it.ckpt", tmp_path / "a.png", tmp_path / "out")
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_files_of_other_formats_are_counted_in_a_warning(trained, tmp_path, caplog):
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), photo())
    for name in ("b.heic", "c.HEIC", "notes.txt"):
        (folder / name).touch()
    with caplog.at_level("WARNING"):
        results, _ = predict(best(trained[0]), folder, tmp_path / "out")
    assert (results["images"], results["failed"]) == (1, 0)
    messages = [r.getMessage() for r in caplog.records if "heic" in r.getMessage()]
    assert len(messages) == 1
    assert "2 .heic (first b.heic)" in messages[0]


def test_nothing_but_failures_is_a_failure_too(trained, tmp_path, capsys):
    (tmp_path / "x.jpg").write_text("no")
    with pytest.raises(SystemExit) as caught:
        predict(best(trained[0]), tmp_path / "x.jpg", tmp_path / "out")
    assert caught.value.code == 1
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) == []
    assert "0 of 1 images" in capsys.readouterr().out


def test_a_foreign_backbone_is_called_where_the_command_line_names_it_too(
    trained, tmp_path, monkeypatch
):
    code = "from parcnet_train.models.backbones.parcnet import ParCNet\nclass Net(ParCNet): pass"
    (tmp_path / "own_networks.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    checkpoint = read_checkpoint(best(trained[0]))
    checkpoint["config"]["backbone"]["_target_"] = "own_networks.Net"
    torch.save(checkpoint, tmp_path / "own.ckpt")
    command = ["action=predict", f"ckpt={tmp_path}/own.ckpt", "input=-"]
    _, (fault,) = configure(command)
    assert (
        "its backbone is own_networks.Net; expected a class of a network in parcnet_train" in fault
    )
    assert fault.endswith("backbone=...")
    assert configure([*command, "backbone._target_=own_networks.Net"])[1] == []


def test_another_task_is_refused(trained, tmp_path):
    checkpoint = read_checkpoint(best(trained[0]))
    checkpoint["choices"]["task"] = checkpoint["config"]["choices"]["task"] = "depth"
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="its task is depth; expected classification"):
        predict(tmp_path / "other.ckpt", "-", tmp_path)

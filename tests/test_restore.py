"""`parcnet_train.load`: the model of a checkpoint."""

import pytest
import torch

import parcnet_train
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.errors import CheckpointError


def test_load_returns_ema_weights_by_default(trained):
    path = trained[0] / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(path)
    ema, raw = parcnet_train.load(path), parcnet_train.load(path, ema=False)
    assert not ema.training
    name = "head.linear.weight"
    assert torch.equal(ema.state_dict()[name], checkpoint["state_dict"][f"model.{name}"])
    assert torch.equal(raw.state_dict()[name], checkpoint["current_model_state"][f"model.{name}"])
    assert not torch.equal(ema.state_dict()[name], raw.state_dict()[name])
    assert ema(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 10)


def test_load_rejects_classes_of_other_packages(trained, tmp_path):
    checkpoint = read_checkpoint(trained[0] / "checkpoints" / "last.ckpt")
    checkpoint["config"]["backbone"] = {"_target_": "pathlib.Path.touch", "self": "here"}
    torch.save(checkpoint, tmp_path / "crafted.ckpt")
    with pytest.raises(CheckpointError) as caught:
        parcnet_train.load(tmp_path / "crafted.ckpt")
    assert "its backbone is pathlib.Path.touch; expected" in str(caught.value)
    assert "packages=[...]" in str(caught.value)


@pytest.mark.parametrize(
    "crafted",
    [
        {"_target_": "parcnet_train.build.logging.FileHandler", "filename": "opened"},
        {"dropout": {"_target_": "logging.FileHandler", "filename": "opened"}},
        {"dropout": [{"_target_": "logging.FileHandler", "filename": "opened"}]},
        {"dropout": "${oc.create:{_target_:logging.FileHandler,filename:opened}}"},
        {"_target_": "parcnet_train.runs.directories.write_results", "folder": ".", "results": {}},
    ],
    ids=str,
)
def test_load_calls_nothing_but_classes_of_this_package(crafted, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = read_checkpoint(trained[0] / "checkpoints" / "last.ckpt")
    head = checkpoint["config"]["head"]
    checkpoint["config"]["head"] = crafted if "_target_" in crafted else {**head, **crafted}
    torch.save(checkpoint, tmp_path / "crafted.ckpt")
    with pytest.raises(CheckpointError, match=r"its head is .*; expected a class of"):
        parcnet_train.load(tmp_path / "crafted.ckpt")
    assert list(tmp_path.iterdir()) == [tmp_path / "crafted.ckpt"]


def test_load_lists_weights_that_do_not_fit_the_configuration(trained, tmp_path):
    checkpoint = read_checkpoint(trained[0] / "checkpoints" / "last.ckpt")
    weights = checkpoint["state_dict"]
    weights["model.head.old"] = weights.pop("model.head.linear.bias")
    torch.save(checkpoint, tmp_path / "old.ckpt")
    with pytest.raises(CheckpointError) as caught:
        parcnet_train.load(tmp_path / "old.ckpt")
    first, *lines = str(caught.value).splitlines()
    assert "its weights do not fit its configuration" in first
    assert lines == ["missing: head.linear.bias", "unexpected: head.old"]


def test_load_takes_the_best_checkpoint_of_a_run_directory(trained):
    output, _ = trained
    best = parcnet_train.load(output / "checkpoints" / "best.ckpt").state_dict()
    for name, value in parcnet_train.load(str(output)).state_dict().items():
        torch.testing.assert_close(value, best[name])

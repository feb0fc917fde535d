"""`parcnet_train.load`: the model of a checkpoint."""

import pytest
import torch

import parcnet_train
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.errors import CheckpointError


def test_load_gives_ema_weights_by_default(trained):
    path = trained[0] / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(path)
    ema, raw = parcnet_train.load(path), parcnet_train.load(path, ema=False)
    assert not ema.training
    name = "head.linear.weight"
    assert torch.equal(ema.state_dict()[name], checkpoint["state_dict"][f"model.{name}"])
    assert torch.equal(raw.state_dict()[name], checkpoint["current_model_state"][f"model.{name}"])
    assert not torch.equal(ema.state_dict()[name], raw.state_dict()[name])
    assert ema(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 10)


def test_a_checkpoint_names_no_class_of_another_package(trained, tmp_path):
    checkpoint = read_checkpoint(trained[0] / "checkpoints" / "last.ckpt")
    checkpoint["config"]["backbone"] = {"_target_": "pathlib.Path.touch", "self": "here"}
    torch.save(checkpoint, tmp_path / "crafted.ckpt")
    with pytest.raises(CheckpointError, match=r"its backbone is pathlib\.Path\.touch; allowed are"):
        parcnet_train.load(tmp_path / "crafted.ckpt")
    with pytest.raises(CheckpointError, match=r"packages=\[\.\.\.\]"):
        parcnet_train.load(trained[0] / "checkpoints" / "last.ckpt", packages=["mine"])


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
def test_load_calls_nothing_but_our_classes(crafted, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = read_checkpoint(trained[0] / "checkpoints" / "last.ckpt")
    head = checkpoint["config"]["head"]
    checkpoint["config"]["head"] = crafted if "_target_" in crafted else {**head, **crafted}
    torch.save(checkpoint, tmp_path / "crafted.ckpt")
    with pytest.raises(CheckpointError, match=r"its head is .*; allowed are classes of"):
        parcnet_train.load(tmp_path / "crafted.ckpt")
    assert list(tmp_path.iterdir()) == [tmp_path / "crafted.ckpt"]


def test_load_names_weights_that_its_configuration_does_not_have(trained, tmp_path):
    checkpoint = read_checkpoint(trained[0] / "checkpoints" / "last.ckpt")
    weights = checkpoint["state_dict"]
    weights["model.head.old"] = weights.pop("model.head.linear.bias")
    torch.save(checkpoint, tmp_path / "old.ckpt")
    with pytest.raises(CheckpointError) as caught:
        parcnet_train.load(tmp_path / "old.ckpt")
    first, *lines = str(caught.value).splitlines()
    assert "its weights are not those of its configuration in parcnet_train" in first
    assert lines == ["missing: head.linear.bias", "too many: head.old"]


def test_of_a_run_directory_the_best_checkpoint_is_loaded(trained):
    output, _ = trained
    best = parcnet_train.load(output / "checkpoints" / "best.ckpt").state_dict()
    for name, value in parcnet_train.load(str(output)).state_dict().items():
        torch.testing.assert_close(value, best[name])

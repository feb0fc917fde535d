"""Weights that a run starts from or resumes with."""

import pytest
import torch

from parcnet_train.build import build_backbone, build_model
from parcnet_train.checkpoints.checkpoints import model_state, pretrained_state
from parcnet_train.checkpoints.reading import KEYS, read_checkpoint
from parcnet_train.tasks.base import Task
from pretraining import MOBILEVIT, tiny_faults
from running import TINY, composed, run


@pytest.fixture
def first_weights(monkeypatch):
    """Record the weights that a training starts with."""
    seen = {}
    start = Task.on_train_start

    def look(task):
        start(task)
        seen.update({name: value.clone() for name, value in task.model.state_dict().items()})

    monkeypatch.setattr(Task, "on_train_start", look)
    return seen


def assert_starts_from(first, checkpoint):
    weights = model_state(checkpoint)
    names = [name for name in first if name.startswith("backbone.")]
    assert len(names) > 100
    assert all(torch.equal(first[name], weights[name]) for name in names)
    assert first["head.linear.weight"].shape != weights["head.linear.weight"].shape


def test_training_starts_from_converted_weights(converted, first_weights, tmp_path):
    results = run([*MOBILEVIT, f"backbone.pretrained={converted}"], tmp_path)
    assert results["steps"] == 2
    assert_starts_from(first_weights, read_checkpoint(converted))


def test_training_starts_from_the_ema_weights_of_another_run(
    best, first_weights, image_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(best.parent))
    overrides = ["backbone.pretrained='~/best.ckpt'", "data=imagefolder", "recipe.batch_size=4"]
    run([*TINY, *overrides, f"data.root={image_folder}"], tmp_path)
    checkpoint = read_checkpoint(best)
    assert_starts_from(first_weights, checkpoint)
    raw = model_state(checkpoint, ema=False)["backbone.stages.0.0.conv.weight"]
    assert not torch.equal(first_weights["backbone.stages.0.0.conv.weight"], raw)


def test_run_directory_stands_for_its_best_checkpoint(trained, best):
    assert tiny_faults(f"backbone.pretrained={trained[0]}") == []
    config = composed(*TINY)
    network = (build_backbone(config), config["choices"], config["backbone"])
    of_run, _ = pretrained_state(str(trained[0]), *network)
    of_file, _ = pretrained_state(str(best), *network)
    assert of_run.keys() == of_file.keys()
    assert all(torch.equal(of_run[name], of_file[name]) for name in of_run)


def test_dense_network_starts_from_a_classifier_with_a_class_token(tmp_path):
    small = ["backbone=pvt_tiny", "backbone.widths=[8,8,8,8]", "backbone.heads=[1,1,1,1]"]
    native, dense = composed(*small, "head=native"), composed(*small)
    torch.manual_seed(0)
    weights = build_model(native, 2).state_dict()
    checkpoint = {
        **dict.fromkeys(KEYS, 0),
        "state_dict": {f"model.{name}": value for name, value in weights.items()},
        "config": native,
        "choices": native["choices"],
    }
    torch.save(checkpoint, tmp_path / "native.ckpt")
    backbone = build_backbone(dense)
    state, others = pretrained_state(
        str(tmp_path / "native.ckpt"), backbone, dense["choices"], dense["backbone"]
    )
    backbone.load_state_dict(state)
    assert others == []
    name = "stages.3.embed.position"
    assert torch.equal(backbone.state_dict()[name], weights[f"backbone.{name}"])


def test_ckpt_takes_precedence_over_pretrained(tmp_path, first_weights):
    """The pretrained file is not even opened: it may be gone when a run is resumed."""
    run([*TINY], tmp_path / "run")
    last = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    gone = [*TINY, "backbone.pretrained=/nowhere.ckpt", f"ckpt={tmp_path / 'run'}"]
    assert run([*gone, "action=test"], tmp_path / "test")["status"] == "done"
    run([*gone, "trainer.max_epochs=2"], tmp_path / "run")
    name = "backbone.stages.0.0.conv.weight"
    torch.testing.assert_close(first_weights[name], model_state(last, ema=False)[name])


def test_differing_values_that_fit_the_weights_are_logged(converted, tmp_path, caplog):
    overrides = ["backbone.heads=8", "backbone.dropout=0.0"]
    run([*MOBILEVIT, *overrides, f"backbone.pretrained={converted}"], tmp_path / "fit")
    told = "was trained with other values than this run's: "
    assert f"{converted} {told}backbone.heads=4 backbone.dropout=0.1" in caplog.messages

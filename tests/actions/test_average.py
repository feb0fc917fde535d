"""`action=average`: the mean of a run's best epochs."""

import shutil

import numpy as np
import pytest
import torch

import parcnet_train
from faults import is_like
from parcnet_train.actions.average import average
from parcnet_train.checkpoints.checkpoints import model_state
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.errors import CheckpointError
from running import TINY, configure, run

AVERAGE = [*TINY, "action=average"]
COUNTER = "backbone.stages.0.0.norm.num_batches_tracked"


@pytest.fixture(scope="module")
def epochs(trained, tmp_path_factory):
    """A run that kept three epochs, the second of which is the newest; noise tells them apart."""
    folder = tmp_path_factory.mktemp("average") / "run"
    shutil.copytree(trained[0], folder)
    torch.manual_seed(0)
    for number, epoch in enumerate((0, 5, 2)):
        checkpoint = read_checkpoint(folder / "checkpoints" / "best.ckpt")
        for name in (f"model.{name}" for name in model_state(checkpoint)):
            value = checkpoint["state_dict"][name]
            if value.is_floating_point():
                value.mul_(1 + 0.1 * torch.rand_like(value))
        checkpoint["state_dict"][f"model.{COUNTER}"].fill_(100 + number)
        checkpoint["epoch"] = epoch
        del checkpoint["optimizer_states"]  # large, and of no use here
        torch.save(checkpoint, folder / "checkpoints" / f"best_epoch{epoch:03d}.ckpt")
    return folder


@pytest.fixture(scope="module")
def averaged(epochs, tmp_path_factory):
    output = tmp_path_factory.mktemp("average")
    return output, run([*AVERAGE, f"ckpt={epochs}"], output)


def test_weights_are_the_mean_of_the_ema_weights(epochs, averaged):
    files = sorted((epochs / "checkpoints").glob("best_epoch*.ckpt"))
    states = [model_state(read_checkpoint(file)) for file in files]
    checkpoint = read_checkpoint(averaged[0] / "checkpoints" / "average.ckpt")
    mean = model_state(checkpoint)
    assert mean.keys() == states[0].keys()
    for name, value in mean.items():
        assert value.dtype == states[0][name].dtype
        if value.is_floating_point():
            expected = np.mean([state[name].numpy().astype(np.float64) for state in states], axis=0)
            np.testing.assert_array_equal(value.numpy(), expected.astype(np.float32))
        else:  # a counter, which has no mean
            assert torch.equal(value, states[2][name]), name
    assert mean[COUNTER] == 101
    assert not torch.equal(mean["head.linear.weight"], states[0]["head.linear.weight"])
    assert checkpoint["averaged"] == [file.name for file in files]


def test_results_are_those_of_the_average_and_of_each_source(epochs, averaged, tmp_path):
    output, results = averaged
    assert results["checkpoint"] == str(output / "checkpoints" / "average.ckpt")
    assert results["checkpoint_epoch"] == 6
    files = sorted((epochs / "checkpoints").glob("best_epoch*.ckpt"))
    assert results["sources"] == list(map(str, files))
    prefixes = {"": output / "checkpoints" / "average.ckpt"}
    prefixes["source/best_epoch005/"] = files[-1]
    for prefix, file in prefixes.items():
        tested = run([*TINY, "action=test", f"ckpt={file}"], tmp_path / file.stem)
        for name in ("val/top1", "val/top5", "val/loss", "val/skipped"):
            assert results[prefix + name] == tested[name], (prefix, name)
    sources = {results[f"source/{file.stem}/val/loss"] for file in files}
    assert len({results["val/loss"], *sources}) == 4


def test_an_average_is_loaded_and_starts_a_backbone(averaged, tmp_path):
    file = averaged[0] / "checkpoints" / "average.ckpt"
    mean = model_state(read_checkpoint(file))
    loaded = parcnet_train.load(file).state_dict()
    assert all(torch.equal(mean[name], value) for name, value in loaded.items())
    frozen = ["recipe.finetuning.freeze_stages=all", f"backbone.pretrained={file}"]
    run([*TINY, *frozen], tmp_path)
    last = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    started = model_state(last, ema=False)
    name = "backbone.stages.0.0.conv.weight"
    assert torch.equal(started[name], mean[name])
    _, (fault,) = configure([*TINY, f"ckpt={file}"])
    assert "contains only weights" in fault


def test_a_run_keeps_the_epochs_that_are_averaged(tmp_path):
    overrides = ["trainer.max_epochs=3", "checkpoint.keep_best=2"]
    run([*TINY, *overrides], tmp_path / "run")
    results = run([*AVERAGE, f"ckpt={tmp_path / 'run'}"], tmp_path / "average")
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("best_epoch*"))
    assert len(kept) == 2
    assert [path.rpartition("/")[2] for path in results["sources"]] == kept


def test_one_epoch_is_no_average(epochs, tmp_path):
    run_folder = tmp_path / "run"
    (run_folder / "checkpoints").mkdir(parents=True)
    shutil.copy(epochs / "checkpoints" / "best.ckpt", run_folder / "checkpoints")
    for count in (0, 1):
        _, faults = configure([*AVERAGE, f"ckpt={run_folder}"])
        (fault,) = faults
        assert fault.startswith(f"ckpt={run_folder}: {run_folder}/checkpoints contains {count} ")
        assert "at least two" in fault
        assert "checkpoint.keep_best=5" in fault
        shutil.copy(
            epochs / "checkpoints" / "best.ckpt", run_folder / "checkpoints" / "best_epoch000.ckpt"
        )
    assert configure(AVERAGE)[1] == [
        "ckpt has no value; action=average needs a checkpoint: expected last, a checkpoint file or "
        "a run directory"
    ]


@pytest.mark.slow
def test_epochs_of_another_network_or_other_classes(epochs, tmp_path, image_folder):
    _, (fault, *_) = configure([*AVERAGE, "backbone=mobilevit_xxs", f"ckpt={epochs}"])
    assert is_like(fault, f"ckpt={epochs}/checkpoints/best_epoch000.ckpt: … task=classification")
    assert fault.endswith("add backbone=parcnet_xs")
    overrides = ["data=imagefolder", f"data.root={image_folder}"]
    values, (fault,) = configure([*AVERAGE, *overrides, f"ckpt={epochs}"], tmp_path / "average")
    assert is_like(fault, "has 10 classes, … the data set has 3")
    with pytest.raises(CheckpointError, match=r"best_epoch000\.ckpt: .*has 10 classes"):
        average(values)
    assert not (tmp_path / "average").exists()
    shutil.copytree(epochs, tmp_path / "mixed")
    file = tmp_path / "mixed" / "checkpoints" / "best_epoch002.ckpt"
    checkpoint = read_checkpoint(file)
    checkpoint["choices"]["backbone"] = "mobilevit_xxs"
    del checkpoint["state_dict"][f"model.{COUNTER}"]
    torch.save(checkpoint, file)
    _, (fault,) = configure([*AVERAGE, f"ckpt={tmp_path / 'mixed'}"])
    assert is_like(fault, "best_epoch002.ckpt: … task=classification backbone=mobilevit_xxs")

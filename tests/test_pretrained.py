"""`backbone.pretrained`, and what converted checkpoints are refused for."""

import pytest
import timm
import torch

import golden
from parcnet_train.build import build_backbone
from parcnet_train.checkpoints.checkpoints import model_state, pretrained_state
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.conversion.convert import convert
from parcnet_train.tasks.base import Task
from running import TINY, composed, configure, run

MOBILEVIT = [*TINY, "backbone=mobilevit_xxs", "backbone.depths=[2,4,3]"]


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """timm's weights for a thousand classes."""
    folder = tmp_path_factory.mktemp("converted")
    torch.save(golden.weights_of(timm.create_model("mobilevit_xxs")), folder / "timm.pt")
    settings = ("timm", "mobilevit_xxs", "classification")
    convert(folder / "timm.pt", folder / "timm.ckpt", *settings)
    return folder / "timm.ckpt"


@pytest.fixture
def best(trained):
    return trained[0] / "checkpoints" / "best.ckpt"


@pytest.fixture
def first_weights(monkeypatch):
    """The weights that a training starts with."""
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


def test_a_run_starts_from_converted_weights(converted, first_weights, tmp_path):
    results = run([*MOBILEVIT, f"backbone.pretrained={converted}"], tmp_path)
    assert results["steps"] == 2
    assert_starts_from(first_weights, read_checkpoint(converted))


def test_a_run_starts_from_the_averaged_weights_of_another(
    best, first_weights, image_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(best.parent))
    overrides = ["backbone.pretrained='~/best.ckpt'", "data=imagefolder", "recipe.batch_size=4"]
    run([*TINY, *overrides, f"data.root={image_folder}"], tmp_path)
    checkpoint = read_checkpoint(best)
    assert_starts_from(first_weights, checkpoint)
    raw = model_state(checkpoint, ema=False)["backbone.stages.0.0.conv.weight"]
    assert not torch.equal(first_weights["backbone.stages.0.0.conv.weight"], raw)


def test_of_a_run_directory_the_best_checkpoint_is_taken(trained, best):
    assert faults_of(f"backbone.pretrained={trained[0]}") == []
    backbone = build_backbone(composed(*TINY))
    of_run, _ = pretrained_state(str(trained[0]), backbone, composed(*TINY))
    of_file, _ = pretrained_state(str(best), backbone, composed(*TINY))
    assert of_run.keys() == of_file.keys()
    assert all(torch.equal(of_run[name], of_file[name]) for name in of_run)


def test_weights_of_a_checkpoint_come_before_pretrained_ones(tmp_path, first_weights):
    """They are not even looked for: the file may be gone when a run is resumed."""
    run([*TINY], tmp_path / "run")
    last = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    gone = [*TINY, "backbone.pretrained=/nowhere.ckpt", f"ckpt={tmp_path / 'run'}"]
    assert run([*gone, "action=test"], tmp_path / "test")["status"] == "done"
    run([*gone, "trainer.max_epochs=2"], tmp_path / "run")
    name = "backbone.stages.0.0.conv.weight"
    torch.testing.assert_close(first_weights[name], model_state(last, ema=False)[name])


def faults_of(*overrides):
    return configure([*TINY, *overrides])[1]


def test_a_file_that_is_not_there_or_no_checkpoint(tmp_path):
    (fault,) = faults_of("backbone.pretrained=/nowhere.ckpt")
    assert fault.startswith("backbone.pretrained=/nowhere.ckpt cannot be read: No such file")
    (fault,) = faults_of(f"backbone.pretrained={tmp_path}")
    assert fault.endswith(
        "directory; allowed is a checkpoint file, such as RUN/checkpoints/best.ckpt"
    )
    torch.save({"a": torch.zeros(1)}, tmp_path / "bare.pt")
    (fault,) = faults_of(f"backbone.pretrained={tmp_path / 'bare.pt'}")
    assert fault.startswith(f"backbone.pretrained={tmp_path / 'bare.pt'} is not a checkpoint of")
    assert fault.endswith("published weights become one by scripts/convert_weights.py")
    (fault,) = faults_of("backbone.pretrained=3")
    assert fault.startswith("backbone.pretrained=3 cannot be read: No such file")  # 3 is a path
    (fault,) = faults_of("+backbone.pretraind=a")
    assert fault == "backbone.pretraind: ParCNet takes no such argument; did you mean pretrained?"


def test_a_network_that_is_only_counted_needs_no_weights():
    assert faults_of("action=profile", "backbone.pretrained=/nowhere.ckpt") == []


def test_another_architecture_is_named_with_every_difference(converted, best):
    first, *lines = faults_of(f"backbone.pretrained={converted}")
    assert first == (
        f"backbone.pretrained={converted} holds task=classification backbone=mobilevit_xxs "
        "head=classifier, this run has task=classification backbone=parcnet_xs head=classifier "
        "data=demo; the weights of their backbones differ"
    )
    assert "missing: stages.2.1.blocks.0.mixer.height_first.first.weight" in lines
    assert "too many: stages.2.1.blocks.0.qkv.{weight,bias}" in lines
    assert "misshapen: stages.0.1.expand.conv.weight is 32x16x1x1, not 64x16x1x1" in lines
    _, *lines = faults_of(f"backbone.pretrained={best}", "backbone.stem_kernel=5")
    assert lines == ["misshapen: stages.0.0.conv.weight is 16x3x3x3, not 16x3x5x5"]
    first, *_ = faults_of(f"backbone.pretrained={best}", "backbone.stem_kernel=5")
    assert first.endswith("the weights of their backbones differ, it has backbone.stem_kernel=3")
    (fault,) = faults_of("action=test", f"ckpt={best}", "backbone.fusion=concat")
    assert fault.endswith("; add backbone.fusion=add")
    # A network that refuses its arguments is told once.
    (fault,) = faults_of(f"backbone.pretrained={converted}", "backbone.widths=[191,2,2]")
    assert "each must be even" in fault


def test_values_that_the_weights_do_not_tell_are_told(converted, tmp_path, caplog):
    overrides = ["backbone.heads=8", "backbone.dropout=0.0"]
    run([*MOBILEVIT, *overrides, f"backbone.pretrained={converted}"], tmp_path / "fit")
    told = "was trained with other values than this run's: "
    assert f"{converted} {told}backbone.heads=4 backbone.dropout=0.1" in caplog.messages


def test_training_does_not_go_on_from_weights_alone(converted):
    (fault,) = configure([*MOBILEVIT, f"ckpt={converted}"])[1]
    assert fault == (
        f"ckpt={converted} holds weights without the state of a training, so there is nothing to "
        f"go on from; start a new run from them with backbone.pretrained={converted}, or evaluate "
        "them with action=test"
    )


def test_classes_are_compared_before_anything_is_written(converted, best, image_folder):
    overrides = ["data=imagefolder", f"data.root={image_folder}", "action=test"]
    (fault,) = faults_of(*overrides, f"ckpt={best}")
    assert fault.startswith(f"ckpt={best} has 10 classes, the data set has 3; give it the")
    (fault,) = configure([*MOBILEVIT, *overrides, f"ckpt={converted}"])[1]
    assert fault.startswith(f"ckpt={converted} has 1000 classes, the data set has 3; give it")

"""Checkpoints that were written, after two epochs, before modules moved (2026-11-29)."""

import lzma
import pydoc

import pytest

import golden
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.checkpoints.renamed import RENAMED, renamed
from parcnet_train.targets import locate, named_targets
from running import run

NETWORK = (
    "backbone=parcnet_xs",
    "backbone.stem_channels=[4,4,8]",
    "backbone.channels=[16,16,16]",
    "backbone.widths=[16,16,16]",
    "backbone.depths=[1,1,1]",
    "backbone.meta_lengths=[4,4,4]",
)
HEADS = {
    "classification": (),
    "detection": ("head.extra_channels=[16,16,8,8]", "head.projections=[8,8]"),
    "segmentation": ("head.channels=8",),
}
BATCHES = ("trainer.limit_train_batches=2", "trainer.limit_val_batches=2")
# Results of the code that wrote them: of an evaluation, and of a third epoch.
EVALUATED = {
    "classification": {"val/top1": 0.101408451795578, "val/loss": 2.3025879859924316},
    "detection": {"val/map": 0.0006192622240632772, "val/mar_100": 0.08473339676856995},
    "segmentation": {"val/miou": 0.010512841223266862, "val/loss": 2.405006170272827},
}
RESUMED = {
    "classification": {"train/loss": 2.3238396644592285, "val/loss": 2.29899525642395},
    "detection": {"train/loss": 15.027329444885254, "val/loss": 12.316967964172363},
    "segmentation": {"train/loss": 2.5541014671325684, "val/loss": 2.40386962890625},
}


@pytest.fixture(
    params=[
        task if task == "classification" else pytest.param(task, marks=pytest.mark.slow)
        for task in HEADS
    ]
)
def old(request, tmp_path):
    """Return a task and the path of its checkpoint."""
    path = tmp_path / "last.ckpt"
    content = (golden.FOLDER / "checkpoints" / f"{request.param}.ckpt.xz").read_bytes()
    path.write_bytes(lzma.decompress(content))
    return request.param, path


def test_renamed_classes_of_old_checkpoints_are_found(old):
    _, path = old
    targets = [target for _, target in named_targets(read_checkpoint(path)["config"])]
    assert len(targets) > 5
    assert [target for target in targets if locate({"_target_": target}) is None] == []


@pytest.mark.parametrize("name", RENAMED.values())
def test_current_names_exist_and_are_not_changed(name):
    assert pydoc.locate(name) is not None
    assert renamed({"_target_": name, "a": [{"_target_": f"{name}.B"}]}) == {
        "_target_": name,
        "a": [{"_target_": f"{name}.B"}],
    }


def test_old_checkpoints_are_evaluated_and_exported_as_before(old, tmp_path):
    task, path = old
    results = run(["action=test", f"ckpt={path}"], tmp_path / "test")
    assert {name: results[name] for name in EVALUATED[task]} == pytest.approx(
        EVALUATED[task], rel=1e-3, abs=1e-3
    )
    exported = run(["action=export", f"ckpt={path}"], tmp_path / "export")
    assert exported["export/size"] == [{"classification": 32}.get(task, 128)] * 2


def test_old_checkpoints_are_resumed_as_before(old, tmp_path):
    task, path = old
    command = (f"task={task}", *NETWORK, *HEADS[task], *BATCHES, "trainer.max_epochs=3")
    results = run([*command, f"ckpt={path}"], tmp_path / "fit")
    assert results["epochs"] == 3
    assert {name: results[name] for name in RESUMED[task]} == pytest.approx(RESUMED[task], rel=2e-3)

"""Metrics of a checkpoint."""

import json

import pytest

from faults import is_like
from parcnet_train.errors import CheckpointError
from parcnet_train.runs.evaluations import evaluation_of

RESULTS = {
    "monitor": "val/map",
    "split": "val",
    "data": "coco_format",
    "val/map": 0.5,
    "val/map_small": None,
    "val/skipped": 0.0,
    "val/raw/map": 0.4,
    "train/loss": 1.0,
    "checkpoint": "/elsewhere/checkpoints/best.ckpt",
    "checkpoint_epoch": 3,
}


@pytest.fixture
def run_of(tmp_path):
    """Function that writes a run directory and returns its checkpoint."""

    def write(name="run", **values):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps({**RESULTS, **values}))
        (folder / "provenance.json").write_text('{"data": {"val_images": 7, "test_images": 9}}')
        return folder / "checkpoints" / "best.ckpt"

    return write


def test_metrics_are_those_of_the_run(run_of):
    found = evaluation_of(None, run_of(), 3)
    assert found["values"] == {"map": 0.5}
    assert (found["metric"], found["split"], found["images"]) == ("map", "val", 7)
    assert found["chosen"]


def test_test_set_chose_nothing(run_of):
    found = evaluation_of(None, run_of(split="test"), 3)
    assert (found["split"], found["images"], found["chosen"]) == ("test", 9, False)


@pytest.mark.parametrize(
    ("values", "epoch"), [({}, 4), ({"checkpoint": "last.ckpt"}, 3)], ids=["epoch", "file"]
)
def test_other_checkpoints_have_no_metrics(run_of, values, epoch):
    assert evaluation_of(None, run_of(**values), epoch) is None


def test_checkpoint_outside_of_a_run_has_no_metrics(tmp_path):
    assert evaluation_of(None, tmp_path / "published.ckpt", 0) is None


def test_named_run_must_evaluate_the_checkpoint(run_of, tmp_path):
    path, other = run_of(), run_of("other", checkpoint_epoch=8)
    (tmp_path / "empty").mkdir()
    for folder, found in ((other.parents[1], "best.ckpt of epoch 8"), (tmp_path / "empty", "no")):
        with pytest.raises(CheckpointError) as caught:
            evaluation_of(str(folder), path, 3)
        message = f"release.results={folder}: … {found} … expected best.ckpt of epoch 3 … Fix: "
        assert is_like(str(caught.value), message)

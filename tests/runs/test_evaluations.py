"""Metrics of a checkpoint."""

import hashlib
import json
from pathlib import Path

import pytest

from faults import is_like
from parcnet_train.errors import CheckpointError
from parcnet_train.runs.evaluations import dataset_of, evaluation_of

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
PROVENANCE = {
    "data": {"val_images": 7, "test_images": 9},
    "config": {
        "data": {"root": "/sets/cars", "image_size": 64},
        "task": {"scales": [1.0, 2.0], "mirror": True},
    },
}


@pytest.fixture
def run_of(tmp_path):
    """Function that writes a run directory and returns its checkpoint."""

    def write(name="run", file="best.ckpt", **values):
        folder = tmp_path / name
        path = folder / "checkpoints" / file
        path.parent.mkdir(parents=True)
        path.write_text(name)
        checksum = hashlib.sha256(name.encode()).hexdigest()
        results = {**RESULTS, "checkpoint": str(path), "checkpoint_sha256": checksum, **values}
        (folder / "results.json").write_text(json.dumps(results))
        (folder / "provenance.json").write_text(json.dumps(PROVENANCE))
        return path

    return write


def test_metrics_are_those_of_the_run(run_of):
    found = evaluation_of(None, run_of(), 3)
    assert found["values"] == {"map": 0.5}
    assert (found["metric"], found["split"], found["images"]) == ("map", "val", 7)
    assert found["chosen"]


def test_metrics_say_what_was_evaluated(run_of):
    found = evaluation_of(None, run_of(images=5, evaluated_classes=2), 3)
    assert (found["dataset"], found["image_size"], found["images"]) == ("cars", [64, 64], 5)
    assert (found["evaluated_classes"], found["scales"], found["mirror"]) == (2, [1.0, 2.0], True)


def test_test_set_chose_nothing(run_of):
    found = evaluation_of(None, run_of(split="test"), 3)
    assert (found["split"], found["images"], found["chosen"]) == ("test", 9, False)


@pytest.mark.parametrize(
    ("file", "chosen"),
    [("best_epoch=2.ckpt", True), ("last.ckpt", False), ("average.ckpt", False)],
)
def test_only_the_best_epochs_are_chosen_by_their_metric(run_of, file, chosen):
    assert evaluation_of(None, run_of(file=file), 3)["chosen"] == chosen


@pytest.mark.parametrize(
    ("values", "epoch"), [({}, 4), ({"checkpoint": "last.ckpt"}, 3)], ids=["epoch", "file"]
)
def test_other_checkpoints_have_no_metrics(run_of, values, epoch):
    assert evaluation_of(None, run_of(**values), epoch) is None


def test_checkpoint_outside_of_a_run_has_no_metrics(tmp_path):
    assert evaluation_of(None, tmp_path / "published.ckpt", 0) is None


def test_named_run_must_evaluate_the_checkpoint(run_of, tmp_path):
    path, other = run_of(), run_of("other")  # the same name and epoch
    (tmp_path / "empty").mkdir()
    unsigned = run_of("unsigned", checkpoint_sha256="")
    for folder, found in (
        (other.parents[1], f"{other} of epoch 3"),
        (unsigned.parents[1], f"{unsigned} of epoch 3"),
        (tmp_path / "empty", "no checkpoint"),
    ):
        with pytest.raises(CheckpointError) as caught:
            evaluation_of(str(folder), path, 3)
        message = f"release.results={folder}: … evaluates {found}; expected {path} of … Fix: "
        assert is_like(str(caught.value), message)


def test_named_run_evaluates_the_checkpoint_by_its_checksum(run_of, tmp_path):
    path, test = run_of(), run_of("test")
    test.write_bytes(path.read_bytes())
    results = json.loads((test.parents[1] / "results.json").read_text())
    results |= {"checkpoint": "renamed", "checkpoint_sha256": hashlib.sha256(b"run").hexdigest()}
    (test.parents[1] / "results.json").write_text(json.dumps(results))
    found = evaluation_of(str(test.parents[1]), path, 3)
    assert (found["values"], found["chosen"]) == ({"map": 0.5}, False)


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("/data/flowers/", "flowers"),
        ("C:\\Users\\x\\flowers", "flowers"),
        ("https://alice:token@host/flowers", "flowers"),
        *((root, "imagefolder") for root in (".", "..", "/", "~", "/home/alice", "/Users/alice")),
        *((root, "imagefolder") for root in ("/root", "C:\\Users\\alice", "alice@host:flowers")),
        (str(Path.home()), "imagefolder"),
    ],
)
def test_name_of_a_data_set_names_no_user(root, name):
    assert dataset_of("imagefolder", {"root": root}) == name
    assert dataset_of("voc", {"root": root}) == "voc"

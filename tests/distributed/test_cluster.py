"""Trainings and evaluations of several processes, on CPUs with gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import running
from parcnet_train.distributed.launch import launch

TRAIN, VAL = 29, 37  # primes, so that no number of processes divides them
CLASSES = ("ant", "bee", "cat")
SMALL = [
    "backbone=parcnet_xs",
    "backbone.depths=[1,1,1]",
    "data=imagefolder",
    "data.num_workers=0",
    "recipe.batch_size=4",
    "recipe.image_size=64",
    "recipe.schedule.warmup_steps=0",
]
SEVERAL = ["trainer=ddp", "trainer.accelerator=cpu"]
METRICS = ("val/top1", "val/top5", "val/loss", "val/skipped")


@pytest.fixture(scope="module")
def prime_folder(tmp_path_factory):
    """Create images of three separable classes; one validation image is unreadable."""
    root = tmp_path_factory.mktemp("prime")
    random = np.random.default_rng(0)
    for split, number in (("train", TRAIN), ("val", VAL)):
        for index in range(number):
            label = index % len(CLASSES)
            folder = root / split / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 200, (48, 40, 3), dtype=np.uint8)
            pixels[..., label] += random.integers(0, 56, dtype=np.uint8)
            cv2.imwrite(str(folder / f"{index}.png"), pixels)
    (root / "val" / "bee" / "4.png").write_bytes(b"not an image")
    return root


def call(overrides, cwd):
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-m", "parcnet_train", *overrides],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


class Training:
    """Output of a training of several processes."""

    def __init__(self, processes, folder, prime_folder, *overrides):
        recording = ["data._target_=recording.RecordingData", "+data.record=record"]
        multi_scale = "parcnet_train.data.samplers.MultiScale"
        self.folder = folder
        self.done = call(
            [
                *SMALL,
                *SEVERAL,
                *recording,
                f"trainer.devices={processes}",
                f"data.root={prime_folder}",
                "data.on_error=skip",
                f"++data.multi_scale={{_target_:{multi_scale},smallest:0.5}}",
                "recipe.epochs=1",
                *overrides,
            ],
            cwd=folder,
        )
        assert self.done.returncode == 0, self.done.stderr
        (self.run,) = folder.glob("runs/classification/parcnet_xs-imagefolder/*")
        self.results = json.loads((self.run / "results.json").read_text())
        record = [folder / "record" / f"{rank}" for rank in range(processes)]
        self.seen = [json.loads(path.with_suffix(".json").read_text()) for path in record]
        self.states = [torch.load(path.with_suffix(".pt"), weights_only=True) for path in record]


NUMBERS = [2, pytest.param(3, marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=NUMBERS, ids="{} processes".format)
def training(request, prime_folder, tmp_path_factory):
    return Training(request.param, tmp_path_factory.mktemp("training"), prime_folder)


def test_processes_see_disjoint_samples_and_the_same_sizes(training):
    sizes = [[size for _, size in seen] for seen in training.seen]
    assert all(each == sizes[0] for each in sizes)
    assert len({tuple(size) for size in sizes[0]}) > 1
    order = [sample for step in zip(*training.seen, strict=True) for sample, _ in step]
    assert sorted(order[:TRAIN]) == list(range(TRAIN))
    # The last batch is filled up with the first samples.
    assert order[TRAIN:] == order[: len(order) - TRAIN]


@pytest.mark.parametrize("moment", ["saved", "end"])  # at the end, the average becomes the weights
def test_processes_end_with_the_same_weights_and_buffers(moment, training):
    first, *others = (states[moment] for states in training.states)
    assert any("running_mean" in name for name in first)
    for other in others:
        assert first.keys() == other.keys()
        assert [name for name in first if not torch.equal(first[name], other[name])] == []


@pytest.mark.slow
def test_batch_norm_statistics_of_average_use_all_processes(prime_folder, tmp_path):
    training = Training(2, tmp_path, prime_folder, "recipe.ema.buffers=average")
    test_processes_end_with_the_same_weights_and_buffers("end", training)
    checkpoint = torch.load(training.run / "checkpoints" / "last.ckpt", weights_only=True)
    averaged, copied = checkpoint["state_dict"], checkpoint["current_model_state"]
    names = [name for name in averaged if "running_var" in name]
    assert not any(torch.equal(averaged[name], copied[name]) for name in names)


def test_saved_batch_norm_statistics_match_the_trained_weights(training):
    checkpoint = torch.load(training.run / "checkpoints" / "last.ckpt", weights_only=True)
    averaged, trained = checkpoint["state_dict"], checkpoint["current_model_state"]
    names = [name for name in averaged if "running_" in name]
    assert names
    assert [name for name in names if not torch.equal(averaged[name], trained[name])] == []
    assert not torch.equal(
        averaged["model.head.linear.weight"], trained["model.head.linear.weight"]
    )


def test_saved_weights_match_all_processes(training):
    checkpoint = torch.load(training.run / "checkpoints" / "last.ckpt", weights_only=True)
    for key, moment in {"current_model_state": "saved", "state_dict": "end"}.items():
        held = checkpoint[key]
        seen = training.states[0][moment]
        assert all(torch.equal(held[name], value) for name, value in seen.items()), key


def test_processes_write_one_directory_and_log_once(training):
    assert {path.name for path in training.folder.iterdir()} == {"runs", "record"}
    expected = (
        "checkpoints csv parcnet_train.log report.html report.json pictures progress.json "
        "run.json provenance.json .hydra"
    )
    names = {path.name for path in training.run.iterdir()} - {
        "git.diff"
    }  # only with uncommitted changes
    assert names == {*expected.split(), "results.json"}
    assert len(list((training.run / "csv").iterdir())) == 1
    log = (training.run / "parcnet_train.log").read_text()
    for line in ("writing into", "epoch 1/1"):
        assert log.count(line) == training.done.stdout.count(line) == 1
    assert "trainer.devices" in (training.run / ".hydra" / "overrides.yaml").read_text()


@pytest.mark.slow  # tests/tasks/test_detection.py has the same for two processes, and is not
@pytest.mark.parametrize("processes", NUMBERS)
def test_evaluation_does_not_depend_on_the_number_of_processes(
    processes, training, prime_folder, tmp_path, monkeypatch
):
    overrides = [*SMALL, "action=test", f"ckpt={training.run}", f"data.root={prime_folder}"]
    # Checkpoints may not name classes of other packages, but the command line may.
    paths = [str(Path(running.__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    overrides += ["data.on_error=skip", "data._target_=recording.RecordingData"]
    alone = running.run([*overrides, "trainer=cpu"], tmp_path / "1")
    assert (alone["val/skipped"], 0 < alone["val/top1"] < 1) == (1, True)
    metrics = {name: alone[name] for name in METRICS}
    # A training ends with an evaluation in all of its processes.
    assert {name: training.results[name] for name in METRICS} == metrics
    output = tmp_path / f"{processes}"
    several = [*SEVERAL, f"trainer.devices={processes}", f"hydra.run.dir={output}"]
    # Like the command, without the time to start its process.
    command = [sys.executable, "-m", "parcnet_train", *overrides, *several]
    assert launch(command, processes) == 0
    results = json.loads((output / "results.json").read_text())
    assert {name: results[name] for name in METRICS} == metrics

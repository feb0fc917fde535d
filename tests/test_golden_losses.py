"""Losses of ten training steps per task, compared with golden files.

The steps use float64 and images without lossy decoding or interpolation, so that the losses hardly
depend on the processor. Processors differ in the last digits of float32, which ten steps amplify to
a tenth of a loss.

A change that should not affect numbers must keep these losses. An intended change rewrites them,
    PARCNET_TRAIN_WRITE_LOSSES=1 python -m pytest tests/test_golden_losses.py
and its commit message gives the losses before and after.
"""

import csv
import os

import cv2
import numpy as np
import pytest
import torch

import coco_files
import golden
import voc_files
from running import act, configure

COMMON = [
    "backbone=parcnet_xs",
    "recipe.schedule.warmup_steps=3",
    "trainer.limit_val_batches=1",
    "trainer.log_every_n_steps=1",
    "trainer.accelerator=cpu",
    "data.num_workers=0",
    "backbone.dropout=0",  # without MKL, torch draws from another generator
]
RUNS = {
    "classification": [
        "recipe.batch_size=8",
        "recipe.reference_batch=8",
        "trainer.max_epochs=1",
        "trainer.limit_train_batches=10",
        "head.dropout=0",
    ],
    "detection": [
        "recipe.batch_size=4",
        "recipe.reference_batch=4",
        "recipe.image_size=64",
        "data=coco_format",
        "trainer.max_epochs=2",
        "trainer.limit_train_batches=5",
        "task.pictures=0",
        "recipe.augmentation.photometric=false",  # OpenCV's arithmetic
        # At the recipe's own rate, ten steps amplify rounding by 1e12: the head's last norms see
        # four values each.
        "recipe.optimizer.lr=0.00001",
    ],
    "segmentation": [
        "recipe.batch_size=4",
        "recipe.reference_batch=4",
        "recipe.image_size=64",
        "data=voc_format",
        "trainer.max_epochs=2",
        "task.pictures=0",
        "head.dropout=0",
    ],
}
TOLERANCE = 1e-8  # relative; instruction sets differ by up to 1e-12, changed defaults by more


SETS = {"detection": coco_files.write_copies, "segmentation": voc_files.write_several}


def nearest(image, dsize, interpolation=None):
    """Resize without arithmetic on colors, in place of `cv2.resize`."""
    rows, columns = (
        np.arange(length) * old // length
        for length, old in zip(dsize[::-1], image.shape[:2], strict=True)
    )
    return np.ascontiguousarray(image[rows][:, columns])


@pytest.fixture
def float64():
    """Use float64, also for the initial weights."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def losses_of(overrides, output):
    values, faults = configure([*COMMON, *overrides], output)
    assert faults == []
    values["trainer"]["precision"] = "64-true"
    act(values)
    with (output / "csv" / "version_0" / "metrics.csv").open() as stream:
        column = [row["train/loss_step"] for row in csv.DictReader(stream)]
    return [float(value) for value in column if value]


# The other two take half a minute each.
SOME_SLOWLY = [
    task if task == "segmentation" else pytest.param(task, marks=pytest.mark.slow) for task in RUNS
]


@pytest.mark.parametrize("task", SOME_SLOWLY)
def test_losses_match_golden_file(task, tmp_path, float64, monkeypatch):
    monkeypatch.setattr(cv2, "resize", nearest)
    root = [f"data.root={SETS[task](tmp_path / 'set')}"] if task in SETS else []
    losses = losses_of([f"task={task}", *RUNS[task], *root], tmp_path / "run")
    assert len(losses) == 10
    file = golden.FOLDER / f"losses_{task}.txt"
    if os.environ.get("PARCNET_TRAIN_WRITE_LOSSES"):
        file.write_text("".join(f"{loss:.12f}\n" for loss in losses))
    expected = [float(line) for line in file.read_text().split()]
    assert losses == pytest.approx(expected, rel=TOLERANCE)

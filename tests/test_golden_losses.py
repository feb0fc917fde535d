"""Ten training steps per task, against losses kept in a file.

A change that should not move numbers must not. One that should writes the file anew,
    PARCNET_TRAIN_WRITE_LOSSES=1 python -m pytest tests/test_golden_losses.py
and says before and after in its commit.
"""

import csv
import os

import pytest

import golden
from running import run

RUNS = {
    "classification": [
        *("backbone=parcnet_xs", "recipe.batch_size=8", "recipe.schedule.warmup_steps=3"),
        *("recipe.reference_batch=8",),
        *("trainer.max_epochs=1", "trainer.limit_train_batches=10", "trainer.limit_val_batches=2"),
        *("trainer.log_every_n_steps=1", "trainer.accelerator=cpu"),
    ],
    "detection": [
        *("backbone=parcnet_xs", "recipe.batch_size=2", "recipe.schedule.warmup_steps=3"),
        *("recipe.reference_batch=2", "recipe.image_size=64", "data=coco_format"),
        *("trainer.max_epochs=5", "trainer.limit_val_batches=1", "data.num_workers=0"),
        *("trainer.log_every_n_steps=1", "trainer.accelerator=cpu", "task.pictures=0"),
    ],
    "segmentation": [
        *("backbone=parcnet_xs", "recipe.batch_size=4", "recipe.schedule.warmup_steps=3"),
        *("recipe.reference_batch=4", "recipe.image_size=64", "data=voc_format"),
        # At the recipe's own rates rounding grows to a tenth of the loss within ten steps.
        *("recipe.optimizer.lr=0.000003", "recipe.schedule.warmup_lr=0.000001"),
        *("trainer.max_epochs=10", "trainer.limit_val_batches=1", "data.num_workers=0"),
        *("trainer.log_every_n_steps=1", "trainer.accelerator=cpu", "task.pictures=0"),
    ],
}
FOLDERS = {"detection": "coco_folder", "segmentation": "voc_folder"}  # fixtures


@pytest.mark.parametrize("task", RUNS)
def test_ten_steps_lose_what_they_always_lost(task, tmp_path, request):
    own = [f"data.root={request.getfixturevalue(FOLDERS[task])}"] if task in FOLDERS else []
    output = tmp_path / "run"
    run([f"task={task}", *RUNS[task], *own], output)
    with (output / "csv" / "version_0" / "metrics.csv").open() as stream:
        column = [row["train/loss_step"] for row in csv.DictReader(stream)]
    losses = [float(value) for value in column if value]
    assert len(losses) == 10
    file = golden.FOLDER / f"losses_{task}.txt"
    if os.environ.get("PARCNET_TRAIN_WRITE_LOSSES"):
        file.write_text("".join(f"{loss:.6f}\n" for loss in losses))
    # Ten steps let rounding, which differs between processors, grow to about 1e-4.
    assert losses == pytest.approx([float(line) for line in file.read_text().split()], rel=1e-3)

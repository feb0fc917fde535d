"""The classification task."""

import cv2
import numpy as np

from parcnet_train.data.samplers import MultiScale, TrainBatches
from parcnet_train.tasks.classification import ClassificationTask
from running import MULTI_SCALE, TINY, run


def write_images(root, number):
    """Write this many images of `train`, of two classes, and two of `val`."""
    for split, count in (("train", number), ("val", 2)):
        for index in range(count):
            folder = root / split / "ab"[index % 2]
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{index}.png"), np.full((32, 32, 3), index, np.uint8))


def test_multi_scale_epochs_have_the_planned_lengths_and_all_images(tmp_path, monkeypatch):
    write_images(tmp_path / "data", 41)
    shapes = []
    step = ClassificationTask.training_step

    def watched(task, batch, batch_idx):
        shapes.append((task.current_epoch, len(batch.images), *batch.images.shape[2:]))
        return step(task, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", watched)
    settings = ["recipe.batch_size=8", "trainer.max_epochs=3", "trainer.limit_train_batches=1.0"]
    settings += [
        "data=imagefolder",
        f"data.root={tmp_path / 'data'}",
        "trainer.limit_val_batches=1",
    ]
    results = run([*TINY, *MULTI_SCALE, *settings], tmp_path / "run")
    plans = TrainBatches(41, 8, (64, 64), 0, multi_scale=MultiScale("balanced"))
    expected = [
        (epoch, scale.batch_size, *scale.size)
        for epoch in range(3)
        for scale in plans.plan(epoch).scales
    ]
    assert shapes == expected
    lengths = {len(plans.plan(epoch).scales) for epoch in range(3)}
    assert len(lengths) > 1
    assert results["steps"] == len(expected)

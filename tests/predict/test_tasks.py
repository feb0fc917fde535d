"""Predictions of each task, compared with its evaluation."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import torch

from coco_files import VAL as COCO_VAL
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.data.segmentation.palette import read_mask
from parcnet_train.predict.tasks import ClassPredictor
from parcnet_train.tasks.segmentation import SegmentationTask
from predicting import DETECTION, SEGMENTATION, best, changed, predict
from running import TINY, run
from voc_files import VAL as VOC_VAL
from voc_files import image_path


@pytest.mark.slow
def test_classes_match_the_evaluation(trained, tmp_path):
    ckpt = best(trained[0])
    root = Path(read_checkpoint(ckpt)["config"]["data"]["root"]).expanduser()
    # The command line composes another configuration than that of the checkpoint.
    others = ["backbone=mobilevit_xs", "task=detection", "recipe.image_size=[96,64]"]
    sizes = ["predict.batch_size=4", "predict.top=20"]
    results, rows = predict(ckpt, f"{root}/val", tmp_path / "predict", *others, *sizes)
    tested = run([*TINY, "action=test", f"ckpt={ckpt}", "trainer.limit_val_batches=1.0"], tmp_path)
    is_right = [row["file"].split("/")[-2] == row["predictions"][0]["class"] for row in rows]
    assert len(rows) == results["predicted"] > 300
    # For at most one image, rounding, which depends on the batch, decides between two classes.
    assert sum(is_right) == pytest.approx(len(rows) * tested["val/top1"], abs=1.01)
    assert results["task"] == "classification"
    assert results["backbone"] == "parcnet_xs"
    probabilities = [[each["probability"] for each in row["predictions"]] for row in rows]
    assert {len(each) for each in probabilities} == {
        10
    }  # all classes, since there are fewer than requested
    assert np.allclose(np.sum(probabilities, axis=1), 1)
    assert all(each == sorted(each, reverse=True) for each in probabilities)


def test_non_finite_probabilities_fail_only_their_image(trained, tmp_path, monkeypatch, capsys):
    """This happens if a network overflows in 16 bits for some images."""
    for name, value in (("a", 0), ("b", 255)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((32, 32, 3), value, np.uint8))
    find = ClassPredictor.find

    def overflowing(self, network, images, *others):
        def run(images):
            logits = network(images)
            return torch.where(images.flatten(1).bool().any(1, keepdim=True), torch.nan, logits)

        return find(self, run, images, *others)

    monkeypatch.setattr(ClassPredictor, "find", overflowing)
    with pytest.raises(SystemExit) as caught:
        predict(best(trained[0]), tmp_path / "*.png", tmp_path / "out")
    assert caught.value.code == 1
    assert re.search(r"b\.png: .*not finite", capsys.readouterr().err)
    (row,) = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert row["file"] == f"{tmp_path}/a.png"


@pytest.mark.parametrize("keep_aspect", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_objects_match_the_evaluation(keep_aspect, detector, tmp_path):
    data, folder = detector
    ckpt = changed(folder, tmp_path / "it.ckpt", keep_aspect=keep_aspect)
    settings = [f"data.keep_aspect={str(keep_aspect).lower()}", "task.save_predictions=true"]
    settings += ["trainer.limit_val_batches=1.0", f"data.root={data}", f"ckpt={ckpt}"]
    run([*DETECTION, "action=test", *settings], tmp_path / "test")
    expected = json.loads((tmp_path / "test" / "predictions.json").read_text())
    output = tmp_path / "predict"
    _, rows = predict(ckpt, data / "val2017", output, "predict.score_threshold=0.01")
    document = json.loads((output / "images.json").read_text())
    ids = {image["file_name"]: image["id"] for image in COCO_VAL["images"]}
    theirs = {
        image["id"]: ids[image["file_name"].rpartition("/")[2]] for image in document["images"]
    }
    found = [{**row, "image_id": theirs[row["image_id"]]} for row in rows]
    assert len(found) > 20
    assert {row["category_id"] for row in found} <= {2, 7, 90}

    def by_image(rows):
        return sorted(rows, key=lambda row: row["image_id"])

    assert by_image(found) == by_image(expected)
    for image in document["images"]:
        drawn = cv2.imread(str(output / image["picture"]))
        assert max(drawn.shape) == 480
    # Higher thresholds keep the best objects.
    least = sorted(row["score"] for row in rows)[len(rows) // 2]
    _, fewer = predict(ckpt, data / "val2017", tmp_path, f"predict.score_threshold={least}")
    assert fewer == [row for row in rows if row["score"] > least]


@pytest.mark.parametrize(
    "evaluation", [pytest.param("stretch", marks=pytest.mark.slow), "keep_aspect", "windows"]
)
def test_masks_match_the_evaluation(evaluation, segmenter, tmp_path, monkeypatch):
    data, folder = segmenter
    ckpt = changed(folder, tmp_path / "it.ckpt", evaluation=evaluation)
    found = []
    step = SegmentationTask.validation_step

    def watched(task, batch, batch_idx):
        outputs = step(task, batch, batch_idx)
        found.extend(outputs["classes"])
        return outputs

    monkeypatch.setattr(SegmentationTask, "validation_step", watched)
    settings = [f"data.evaluation={evaluation}", "trainer.limit_val_batches=1.0"]
    run([*SEGMENTATION, "action=test", f"data.root={data}", f"ckpt={ckpt}", *settings], tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in VOC_VAL:
        shutil.copy(image_path(data, name), folder)
    output = tmp_path / "predict"
    results, rows = predict(ckpt, folder, output)
    assert results["files"] == ["predictions.json", "masks", "overlays"]
    assert len(rows) == len(found) == len(VOC_VAL)
    classes = set()
    for (name, size), expected, row in zip(VOC_VAL.items(), found, rows, strict=True):
        assert row["mask"] == f"masks/{name}.png"
        mask = read_mask(output / row["mask"])
        assert mask.shape == size
        assert (mask != expected.numpy()).mean() < 1e-3  # rounding depends on the batch
        assert sum(row["classes"].values()) == pytest.approx(1)
        assert cv2.imread(str(output / row["overlay"])).shape[1] <= 480
        with PIL.Image.open(output / row["mask"]) as file:
            assert file.mode == "P"
        classes |= set(row["classes"])
    assert len(classes) > 1

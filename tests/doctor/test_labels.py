"""Likely label errors, with networks that know the truth."""

import contextlib
import functools
import sys

import numpy as np
import pytest
import torch
from torch import nn

from class_folders import make_data as folder_data
from doctor_trees import (
    CLASSES,
    SIZE,
    coco_document,
    mask_of,
    save,
    write_boxes,
    write_document,
    write_masks,
)
from parcnet_train.data.detection.module import CocoData
from parcnet_train.data.detection.transforms import DetectionAugmentation
from parcnet_train.data.segmentation.palette import write_mask
from parcnet_train.doctor import labels
from parcnet_train.doctor.labels import import_cleanlab, label_findings
from parcnet_train.doctor.networks import Network
from parcnet_train.doctor.sets import sets_of
from parcnet_train.errors import ConfigError
from parcnet_train.predict.predictions import Detected
from parcnet_train.predict.tasks import ClassPredictor, ObjectPredictor, PixelPredictor
from voc_modules import make_data as masked_data

boxed_data = functools.partial(
    CocoData, image_size=64, batch_size=2, augmentation=DetectionAugmentation(), num_workers=0
)


class Stub(nn.Module):
    """Network of a function of images; its parameter has the device."""

    def __init__(self, function, predictor):
        super().__init__()
        self.function, self.predictor = function, predictor
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return self.function(images.float())


@pytest.fixture
def sizes(monkeypatch):
    """Return the numbers of images that are compared at a time, as they come to be used."""
    used, predict = [], labels.predicted

    def predicted(network, images, size, results_of):
        used.append(size)
        return predict(network, images, size, results_of)

    monkeypatch.setattr(labels, "predicted", predicted)
    return used


def found_in(data, function, predictor):
    pytest.importorskip("cleanlab")
    network = Network(Stub(function, predictor), 4, contextlib.nullcontext, "RUN")
    training = sets_of(data)[0][0]
    return [*label_findings(network, training, data.class_names)]


@pytest.mark.parametrize("at_once", [50_000, 7])  # class folders of six images come one by one
def test_images_of_another_class_are_found(at_once, tmp_path, monkeypatch, sizes):
    monkeypatch.setattr(labels, "BYTES", at_once * len(CLASSES) * 4)
    for name, level in zip(CLASSES, (40, 120, 200), strict=True):
        for split in ("train", "val"):
            for number in range(6):
                color = np.full((32, 32, 3), level + number, np.uint8)
                save(tmp_path / split / name / f"{number}.png", color)
    save(tmp_path / "train" / "ant" / "wrong.png", np.full((32, 32, 3), 202, np.uint8))
    levels = torch.tensor([42.0, 122.0, 202.0])

    def logits(images):
        return -(images.mean(dim=(1, 2, 3))[:, None] - levels).abs() / 10

    (found,) = found_in(folder_data(tmp_path), logits, ClassPredictor(CLASSES, (32, 32)))
    assert found.count == 1
    assert sizes == [at_once]
    assert found.files == ["ant/wrong.png: labeled ant, the network says cat (100 %)"]
    assert found.pictures[0].caption == found.files[0]


class Knowing(ObjectPredictor):
    """Predictor that returns the true objects, whose images come in the order of the file."""

    def __init__(self, objects):
        super().__init__(["background", *CLASSES], (64, 64))
        self.objects = iter(objects)

    def find(self, network, images, prepared, options):
        found = []
        for _ in prepared:
            classes, boxes = next(self.objects)
            scores = np.full(len(classes), 0.97)
            found.append(Detected([], np.array(classes), scores, np.array(boxes), SIZE))
        return found


@pytest.mark.parametrize("at_once", [50_000, 12])
def test_images_with_wrong_boxes_are_found(at_once, tmp_path, monkeypatch, sizes):
    monkeypatch.setattr(labels, "BYTES", at_once * labels.bytes_of_detections(len(CLASSES)))
    root, document = write_boxes(tmp_path), coco_document("train")
    truth = [([], []) for _ in document["images"]]
    for entry in document["annotations"]:
        left, top, width, height = entry["bbox"]
        classes, boxes = truth[entry["image_id"]]
        classes.append(entry["category_id"])
        boxes.append([left, top, left + width, top + height])
    kept = [each for each in document["annotations"] if each["id"] != 10]  # of image 5
    write_document(root, "train", {**document, "annotations": kept})
    truth = [truth[n] for first in range(2) for n in range(first, 24, 2)] if at_once < 24 else truth
    (found,) = found_in(boxed_data(str(root)), None, Knowing(truth))
    assert (found.count, sizes) == (1, [at_once])
    assert found.files[0].startswith("5.jpg (quality ")
    assert [each.caption for each in found.pictures] == ["5.jpg: given", "5.jpg: network"]


@pytest.mark.parametrize("at_once", [500, 5])
def test_wrong_masks_are_found(at_once, tmp_path, monkeypatch, sizes):
    monkeypatch.setattr(labels, "BYTES", at_once * len(CLASSES) * 96 * 96 * 4)
    root = write_masks(tmp_path)
    wrong = mask_of()
    wrong[:, 60:100] = 0
    wrong[:10] = 255
    write_mask(root / "SegmentationClass" / "t7.png", wrong)

    def logits(images):
        columns = torch.arange(images.shape[3]) * 3 // images.shape[3]
        rows = nn.functional.one_hot(columns, 3).T.float() * 8
        return rows[None, :, None].expand(len(images), 3, images.shape[2], images.shape[3])

    (found,) = found_in(masked_data(str(root)), logits, PixelPredictor(CLASSES, (64, 64)))
    assert (found.count, sizes) == (1, [at_once])
    assert found.files[0].startswith("t7.png (")
    assert len(found.pictures) == 2


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(ConfigError, match=r"pip install 'parcnet-train\[cleanlab\]'"):
        import_cleanlab("filter")

"""Anchor recall against the anchors that the head itself makes."""

import logging

import numpy as np
import pytest
import torch

from coco_files import changed, read
from doctor_trees import write_boxes
from parcnet_train.build import build_model, meta_device
from parcnet_train.data.detection.module import CocoData
from parcnet_train.data.detection.transforms import DetectionAugmentation
from parcnet_train.detection.anchors import make_anchors
from parcnet_train.detection.boxes import pairwise_iou, to_corners
from parcnet_train.doctor.anchors import (
    Anchors,
    anchor_findings,
    best_overlaps,
    enumerated,
    map_sizes,
    mean_recall,
    objects_at,
    warn_of_missed,
)
from parcnet_train.doctor.sets import ImageSet
from running import composed


@pytest.mark.parametrize("size", [(320, 320), (224, 416)])
@pytest.mark.parametrize("smallest", [0.05, 0.1])
def test_best_overlap_is_that_of_all_anchors(size, smallest):
    rng = np.random.default_rng(0)
    begins = rng.uniform(0, 0.9, (500, 2))
    boxes = np.hstack([begins, (begins + rng.uniform(0.01, 0.6, (500, 2))).clip(max=1)])
    anchors = to_corners(make_anchors(map_sizes(size), smallest).double())
    expected = pairwise_iou(torch.from_numpy(boxes)[None], anchors)[0].max(dim=1).values.numpy()
    found = best_overlaps(boxes, Anchors(size, smallest))
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("size", [(320, 320), (224, 416)])
def test_maps_are_those_of_the_head(size):
    config = composed("task=detection", "backbone=parcnet_xs")
    with meta_device(), torch.no_grad():
        outputs = build_model(config, 3).eval()(torch.empty(1, 3, *size, device="meta"))
    assert len(outputs.anchors) == len(make_anchors(map_sizes(size)))


def test_objects_are_placed_as_an_evaluation_does(tmp_path):
    entry = {"id": 1, "image_id": 30, "category_id": 7, "bbox": [0, 0, 30, 20]}
    annotations = read(tmp_path, changed(annotations=[entry]))  # the image has 60x40 pixels
    assert objects_at(annotations, (64, 64), False).boxes.tolist() == [[0, 0, 0.5, 0.5]]
    (box,) = objects_at(annotations, (60, 60), True).boxes
    assert box == pytest.approx([0, 10 / 60, 0.5, 30 / 60])


def test_classes_count_equally_in_the_mean_recall():
    fits, labels = np.array([1, 1, 1, 0], bool), np.array([1, 1, 1, 3])
    assert mean_recall(fits, labels) == 0.5


def test_finding_names_the_classes_whose_boxes_no_anchor_fits(tmp_path):
    thin, square = [2, 30, 60, 1], [0, 0, 32, 32]
    entries = [
        {"id": n, "image_id": 20, "category_id": 2 if n < 30 else 7, "bbox": box}
        for n, box in enumerate([thin] * 30 + [square] * 10)
    ]
    annotations = read(tmp_path, changed(annotations=entries))
    images = ImageSet("train", tmp_path, tmp_path, annotations.files, None, annotations=annotations)
    (found,) = anchor_findings(images, Anchors((64, 64), 0.5), False)
    assert found.sentence == "The training set has boxes that no anchor fits at 64x64 (30 boxes)."
    name = annotations.class_names[1]
    assert f"Fewer than half of the boxes of {name} have such an anchor." in found.message


def test_names_are_enumerated():
    assert enumerated(["cat"]) == "cat"
    assert enumerated(["cat", "dog"]) == "cat and dog"
    assert enumerated([*"abcdefg"]) == "a, b, c, d, e and 2 more classes"


def test_fit_warns_if_no_anchor_fits_many_boxes(tmp_path, caplog):
    data = CocoData(str(write_boxes(tmp_path)), 320, 2, DetectionAugmentation(), num_workers=0)
    head = {"_target_": "parcnet_train.models.heads.ssdlite.SSDLite"}
    with caplog.at_level(logging.WARNING):
        warn_of_missed(data, head)
        warn_of_missed(data, {"_target_": "torch.nn.Identity"})
        assert caplog.messages == []
        warn_of_missed(data, {**head, "smallest_anchor": 0.9})
    (line,) = caplog.messages
    assert line.startswith("head.smallest_anchor=0.9: anchors fit only 0 % of the training boxes")
    assert "320x320" in line
    assert "action=check check.data=full" in line

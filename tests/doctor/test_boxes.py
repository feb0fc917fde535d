"""Checks of boxes that the examination adds to those of a training."""

import numpy as np

from coco_files import changed, read
from parcnet_train.data.detection.box_checks import look_like_corners
from parcnet_train.doctor.boxes import SURE, duplicate_boxes, paired_iou, sides_at_input


def annotated(tmp_path, boxes):
    entries = [
        {"id": n, "image_id": 20, "category_id": 2 if n % 2 else 7, "bbox": box}
        for n, box in enumerate(boxes)
    ]
    return read(tmp_path, changed(annotations=entries))


def test_duplicates_are_the_later_boxes(tmp_path):
    box, other = [10, 10, 30, 30], [10, 10, 30, 31]
    annotations = annotated(tmp_path, [box, other, box, [40, 40, 9, 9]])
    same, crossed, partners = duplicate_boxes(annotations)
    assert same.tolist() == [False, False, True, False]
    assert crossed.tolist() == [False, True, False, False]
    assert partners[1] == 0


def test_iou_of_pairs():
    first = np.array([[0, 0, 10, 10], [0, 0, 1, 1.0]])
    assert paired_iou(first, np.array([[5, 0, 15, 10], [2, 2, 3, 3.0]])).tolist() == [1 / 3, 0]


def test_corners_need_many_boxes(tmp_path):
    rng = np.random.default_rng(0)
    begins = rng.integers(1, 30, (40, 2))
    lengths = rng.integers(2, 30, (40, 2))
    corners = np.hstack([begins, begins + lengths]).tolist()
    assert look_like_corners(annotated(tmp_path, corners), SURE)
    assert not look_like_corners(annotated(tmp_path, corners[:10]), SURE)
    assert not look_like_corners(annotated(tmp_path, np.hstack([begins, lengths]).tolist()), SURE)


def test_boxes_within_their_image_are_no_corners(tmp_path):
    rng = np.random.default_rng(0)  # objects near the top left, larger than their distance from it
    boxes = np.hstack([rng.integers(1, 15, (40, 2)), rng.integers(20, 48, (40, 2))]).tolist()
    assert not look_like_corners(annotated(tmp_path, boxes), SURE)


def test_sides_at_the_input(tmp_path):
    annotations = annotated(tmp_path, [[0, 0, 16, 4]])  # the image has 64x64 pixels
    assert sides_at_input(annotations, (128, 64), False).tolist() == [np.sqrt(16 * 8)]
    assert sides_at_input(annotations, (128, 64), True).tolist() == [8.0]

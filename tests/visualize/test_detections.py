import cv2
import numpy as np
import pytest
import torch

from painting import GRAY, HEIGHT, WIDTH, extent, image
from parcnet_train.data.batches import PADDING, UNLABELED, DetectionBatch
from parcnet_train.detection.types import Detections
from parcnet_train.visualize.detections import color_of, detection_pairs, draw_boxes
from parcnet_train.visualize.pictures import LONGER_SIDE

NAMES = ["background", "cat", "dog"]


def test_box_is_drawn_at_its_place_on_a_resized_picture():
    original = image()
    picture = draw_boxes(original, np.array([[30, 20.0, 80, 50]]), [1], ["cat"])
    assert picture.shape == (LONGER_SIDE * HEIGHT // WIDTH, LONGER_SIDE, 3)
    left, top, right, bottom = extent(picture, color_of(1))
    assert [left, right, bottom] == pytest.approx([120, 320, 200], abs=2)
    assert 60 < top < 80  # the caption is above the box
    assert picture[100, 200].tolist() == list(GRAY)  # inside the box
    assert (original == GRAY).all()


@pytest.mark.parametrize(
    "box", [[-900, -9e9, 2, 3], [118, 58, 900, np.inf], [np.nan, 1, np.nan, 5], [5, 5, 5, 5]]
)
def test_captions_and_boxes_stay_in_the_picture(box):
    picture = draw_boxes(image(), np.array([box]), [2], ["a caption of some length"])
    left, _, right, _ = extent(picture, color_of(2))
    width = cv2.getTextSize("a caption of some length", cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]
    assert right - left > width  # the caption is not cut off


def test_image_without_boxes_is_only_resized():
    assert (draw_boxes(image(), np.zeros((0, 4)), [], []) == GRAY).all()


def test_neighboring_classes_differ_in_color():
    colors = np.array([color_of(label) for label in range(81)])
    assert len(np.unique(colors, axis=0)) == 81
    assert np.abs(np.diff(colors, axis=0)).max(axis=1).min() > 100


def detections_batch():
    """A padding sample and two images with a cat each; the originals are half as large, shifted."""
    boxes = torch.tensor([[30.0, 20, 80, 50], [0, 0, 0, 0]])
    return DetectionBatch(
        images=torch.full((3, 3, HEIGHT, WIDTH), GRAY[0], dtype=torch.uint8),
        boxes=boxes.expand(3, 2, 4),
        labels=torch.tensor([1, UNLABELED]).expand(3, 2),
        samples=torch.tensor([PADDING, 0, 3]),
        placements=torch.tensor([2, 2, 10, 0], dtype=torch.float64).expand(3, 4),
        skipped=torch.tensor(0),
    )


def test_ground_truth_and_detections_are_drawn_at_the_same_place():
    same = Detections(  # a cat, and a dog with too low a score
        torch.tensor([[10.0, 10, 35, 25], [1, 1, 40, 20]]),
        torch.tensor([0.9, 0.2]),
        torch.tensor([1, 2]),
    )
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    pairs = list(detection_pairs(detections_batch(), [same, same, nothing], NAMES))
    assert len(pairs) == 2  # without the padding sample
    truth, found = pairs[0]
    sides = [0, 2, 3]  # the captions at the top differ in length
    expected = np.array(extent(truth, color_of(1)))[sides]
    np.testing.assert_array_equal(np.array(extent(found, color_of(1)))[sides], expected)
    assert not (truth == found).all()  # because of the score in the caption
    assert not (found == color_of(2)).all(axis=-1).any()
    assert (pairs[1][1] == GRAY).all()

"""Matching follows the rule in plain loops, also in edge cases."""

import pytest
import torch
from torchvision.ops import box_convert, box_iou

from parcnet_train.data.batches import UNLABELED
from parcnet_train.detection.boxes import to_corners
from parcnet_train.detection.matching import match

QUARTERS = torch.tensor(  # anchors as corners: the four quarters of the image, and all of it
    [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1], [0, 0, 1, 1]]
)


def definition(anchors, boxes, labels):
    """Apply the release's rule to one image without padding, in loops."""
    anchor_labels, anchor_boxes = [], []
    iou = box_iou(to_corners(anchors).double(), boxes.double()).tolist()
    forced = {}
    for index in range(len(boxes)):
        column = [row[index] for row in iou]
        forced[column.index(max(column))] = index
    for anchor, row in enumerate(iou):
        index = forced.get(anchor, row.index(max(row)) if row else None)
        positive = anchor in forced or (index is not None and row[index] >= 0.5)
        anchor_labels.append(int(labels[index]) if positive else 0)
        anchor_boxes.append(boxes[index].tolist() if positive else None)
    return anchor_labels, anchor_boxes


def scene(images=6, most=9, anchors=300, seed=0):
    """Make random anchors, and a padded batch of boxes whose first image has none."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(anchors, 2, generator=generator) * 0.8
    size = 0.1 + torch.rand(anchors, 2, generator=generator) * 0.2
    corners = torch.cat((first, first + size), dim=1)
    boxes = torch.zeros(images, most, 4)
    labels = torch.full((images, most), UNLABELED)
    for image, count in enumerate([0, *torch.randint(1, most + 1, (images - 1,)).tolist()]):
        some = torch.randperm(anchors, generator=generator)[:count]
        noise = 0.05 * torch.rand(count, 2, generator=generator)
        boxes[image, :count] = corners[some] + torch.cat((-noise, noise), dim=1)
        labels[image, :count] = torch.randint(1, 81, (count,), generator=generator)
    return box_convert(corners, "xyxy", "cxcywh"), boxes, labels


@pytest.mark.parametrize("seed", range(5))
def test_padded_batch_matches_the_definition(seed):
    anchors, boxes, labels = scene(seed=seed)
    matches = match(anchors, boxes, labels)
    for image in range(len(boxes)):
        real = labels[image] != UNLABELED
        expected, expected_boxes = definition(anchors, boxes[image][real], labels[image][real])
        assert matches.labels[image].tolist() == expected
        for anchor, box in enumerate(expected_boxes):
            if box is not None:
                assert matches.boxes[image, anchor].tolist() == box
    assert (matches.labels[1:] > 0).sum(dim=1).min() > 0


def quarters(boxes, labels):
    return match(
        box_convert(QUARTERS, "xyxy", "cxcywh"), torch.tensor([boxes]), torch.tensor([labels])
    ).labels[0]


def test_an_iou_of_a_half_is_a_match():
    assert quarters([[0, 0, 0.5, 1.0], [0, 0, 1, 1]], [7, 9]).tolist() == [7, 0, 7, 0, 9]


def test_an_object_gets_its_best_anchor_whatever_the_overlap():
    assert quarters([[0.6, 0.6, 0.7, 0.7]], [3]).tolist() == [0, 0, 0, 3, 0]


def test_the_last_of_several_objects_gets_a_contested_anchor():
    small, perfect = [0.6, 0.6, 0.7, 0.7], [0.5, 0.5, 1, 1]
    assert quarters([perfect, small], [1, 2])[3] == 2
    assert quarters([small, perfect], [2, 1])[3] == 1


def test_the_first_of_equal_objects_is_matched():
    several = [[0.0, 0, 0.5, 1]] * 3  # the upper quarter is forced to the last of them
    assert quarters(several, [4, 5, 6]).tolist() == [6, 0, 4, 0, 4]


def test_padding_does_not_change_matches():
    boxes, labels = [[0.6, 0.6, 0.7, 0.7]], [3]
    padded = quarters([*boxes, [0.0, 0, 0, 0], [0, 0, 1, 1]], [3, UNLABELED, UNLABELED])
    assert padded.tolist() == quarters(boxes, labels).tolist()


@pytest.mark.parametrize("most", [0, 4])
def test_images_without_objects_are_background(most):
    labels = torch.full((2, most), UNLABELED)
    matches = match(box_convert(QUARTERS, "xyxy", "cxcywh"), torch.zeros(2, most, 4), labels)
    assert matches.labels.tolist() == [[0] * 5] * 2
    assert matches.boxes.shape == (2, 5, 4)


def test_an_object_without_overlap_is_not_matched():
    flat, outside = [0.6, 0.6, 0.6, 0.7], [1.5, 0, 2, 1]
    assert quarters([flat, outside], [3, 4]).tolist() == [0] * 5

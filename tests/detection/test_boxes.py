"""Boxes match torchvision's arithmetic and the formulas in float64."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_convert, box_iou

from parcnet_train.detection.boxes import decode, encode, pairwise_iou, to_corners


def random_boxes(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    first, size = torch.rand(2, *shape, 2, generator=generator, dtype=torch.float64)
    return torch.cat((first, first + 0.05 + size), dim=-1)


def test_box_conversion_matches_torchvision():
    corners = random_boxes(3, 50)
    centers = box_convert(corners, "xyxy", "cxcywh")
    torch.testing.assert_close(to_corners(centers), corners)


def test_iou_matches_torchvision():
    boxes, others = random_boxes(60), random_boxes(40, seed=1)
    iou = pairwise_iou(boxes, others)
    assert (iou > 0.5).sum() > 10
    torch.testing.assert_close(iou, box_iou(boxes, others))
    torch.testing.assert_close(
        pairwise_iou(boxes.float(), others.float()), iou.float(), atol=1e-6, rtol=1e-6
    )


def test_iou_of_a_batch_matches_each_image():
    boxes, others = random_boxes(2, 3, 7), random_boxes(2, 3, 5, seed=1)
    iou = pairwise_iou(boxes, others)
    assert iou.shape == (2, 3, 7, 5)
    for place in np.ndindex(2, 3):
        torch.testing.assert_close(iou[place], box_iou(boxes[place], others[place]))
    shared = pairwise_iou(boxes[0, 0], others)
    torch.testing.assert_close(shared[1, 2], box_iou(boxes[0, 0], others[1, 2]))


def test_iou_of_known_boxes():
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    others = torch.tensor(
        [[0.0, 0.0, 2.0, 2.0], [1, 1, 3, 3], [0, 0, 2, 1], [2, 0, 4, 2], [-3, -3, -1, -1]]
    )
    assert pairwise_iou(boxes, others).tolist() == [[1, pytest.approx(1 / 7), 0.5, 0, 0]]


def test_iou_of_boxes_without_area_is_0():
    flat = [[0.2, 0.2, 0.2, 0.2], [0.2, 0.2, 0.2, 0.6], [0.6, 0.6, 0.2, 0.2], [0, 0, 0, 0]]
    boxes = torch.tensor([*flat, [0.1, 0.1, 0.7, 0.7]])
    iou = pairwise_iou(boxes, boxes)
    assert iou.tolist() == [[0] * 5] * 4 + [[0, 0, 0, 0, 1]]


def test_offsets_of_known_boxes():
    anchor = torch.tensor([[0.5, 0.4, 0.2, 0.1]], dtype=torch.float64)
    corners = torch.tensor([[0.5, 0.35, 0.9, 0.55]], dtype=torch.float64)  # 0.7, 0.45, 0.4, 0.2
    offsets = [0.2 / 0.2 / 0.1, 0.05 / 0.1 / 0.1, math.log(2) / 0.2, math.log(2) / 0.2]
    assert encode(corners, anchor)[0].tolist() == pytest.approx(offsets)


def test_decode_inverts_encode():
    anchors, corners = (
        box_convert(random_boxes(200), "xyxy", "cxcywh"),
        random_boxes(4, 200, seed=1),
    )
    torch.testing.assert_close(decode(encode(corners, anchors), anchors), corners)


def test_flat_boxes_have_finite_offsets():
    anchors = box_convert(random_boxes(3), "xyxy", "cxcywh")
    flat = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.3, 0.3, 0.3, 0.9], [0.8, 0.8, 0.2, 0.2]])
    assert encode(flat, anchors).isfinite().all()


def test_decoded_boxes_are_finite_for_any_offset():
    anchors = torch.tensor([[0.5, 0.5, 0.1, 0.2]])
    offsets = torch.tensor([[0.0, 0.0, 1e4, 3e38]])
    left, top, right, bottom = decode(offsets, anchors)[0].tolist()
    assert (right - left, bottom - top) == pytest.approx((6.25, 12.5))

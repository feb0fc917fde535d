import pytest
import torch

from parcnet_train.detection.placement import to_original


def test_to_original_inverts_the_placement():
    # An image of 480x640 pixels, halved and put 40 pixels below the top of a square of 320.
    placement = torch.tensor([0.5, 0.5, 0.0, 40.0])
    left, top, right, bottom = 100.0, 60.0, 300.0, 200.0
    inside = [left / 2, top / 2 + 40, right / 2, bottom / 2 + 40]
    boxes = torch.tensor([inside]) / 320
    back = to_original(boxes, (320, 320), placement, (480, 640))
    assert back.tolist() == [pytest.approx([left, top, right, bottom], abs=1e-4)]


def test_height_and_width_have_separate_scales():
    placement = torch.tensor([2.0, 0.5, 0.0, 0.0])
    back = to_original(torch.tensor([[0.25, 0.5, 0.75, 1.0]]), (100, 200), placement, (200, 100))
    assert back.tolist() == [pytest.approx([25, 100, 75, 200])]


def test_boxes_are_clipped_to_the_image():
    placement = torch.tensor([1.0, 1.0, 0.0, 10.0])
    back = to_original(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), (100, 100), placement, (80, 90))
    assert back.tolist() == [[0, 0, 90, 80]]

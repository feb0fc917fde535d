"""NMS without torchvision's binary matches its definition in loops."""

import pytest
import torch
from torch import nn
from torchvision.ops import box_iou

from parcnet_train.compat.nms import nms


def naive_nms(boxes, scores, threshold):
    """Apply greedy NMS box by box, in float64; return indices, best first."""
    iou = box_iou(boxes.double(), boxes.double()).tolist()
    kept = []
    for box in scores.argsort(descending=True, stable=True).tolist():
        if not any(iou[box][better] > threshold for better in kept):
            kept.append(box)
    return kept


def crowd(count, seed=0):
    """Make clusters of boxes, each box with a score."""
    generator = torch.Generator().manual_seed(seed)
    heaps = torch.rand(max(1, count // 10), 2, generator=generator)
    centers = heaps[torch.randint(len(heaps), (count,), generator=generator)]
    centers = centers + 0.03 * torch.randn(count, 2, generator=generator)
    halves = 0.03 + 0.07 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat((centers - halves, centers + halves), dim=1)
    return boxes, torch.rand(count, generator=generator)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("count", [1, 7, 300])
def test_nms_matches_its_definition(count, threshold):
    boxes, scores = crowd(count)
    kept = nms(boxes, scores, threshold)
    assert kept.dtype == torch.int64
    assert kept.tolist() == naive_nms(boxes, scores, threshold)


def test_many_boxes_are_compared_in_parts():
    boxes, scores = crowd(700)
    kept = nms(boxes, scores, 0.5).tolist()
    assert kept == naive_nms(boxes, scores, 0.5)
    assert 50 < len(kept) < 600


def test_nms_without_boxes_is_empty():
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_the_first_of_equal_scores_is_kept():
    boxes = torch.tensor([[0.0, 0, 1, 1], [2, 2, 3, 3], [0, 0, 1, 1], [2, 2, 3, 3]])
    assert nms(boxes, torch.full((4,), 0.5), 0.5).tolist() == [0, 1]


def test_an_overlap_equal_to_the_threshold_is_kept():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1], [0, 0, 2, 1.01]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 1]


def test_boxes_without_area_overlap_nothing():
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5]] * 2 + [[0, 0, 1, 1], [0, 0.5, 1, 0.5]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), 0.5).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nms_operator_exists_with_and_without_the_binary(dtype):
    boxes, scores = (tensor.to(dtype) for tensor in crowd(200))
    kept = torch.ops.torchvision.nms(boxes, scores, 0.5)
    assert kept.tolist() == naive_nms(boxes, scores, 0.5)


# torchvision's schema of its operator.
OLD_NAME = pytest.mark.filterwarnings("ignore:.create_unbacked_symint. is deprecated")


@OLD_NAME
def test_nms_operator_passes_torchs_opcheck():
    boxes, scores = crowd(20)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(
        torch.ops.torchvision.nms.default, (boxes, scores, 0.5), test_utils=checks
    )


@OLD_NAME
def test_nms_operator_can_be_exported():
    class Suppress(nn.Module):
        def forward(self, boxes, scores):
            return torch.ops.torchvision.nms(boxes, scores, 0.5)

    inputs = crowd(50)
    exported = torch.export.export(Suppress(), inputs).module()
    assert exported(*inputs).tolist() == naive_nms(*inputs, 0.5)

"""Post-processing matches the published rule, in loops over classes."""

import pytest
import torch

from compat.test_nms import naive_nms
from parcnet_train.detection import postprocess
from parcnet_train.detection.boxes import decode, encode
from parcnet_train.detection.postprocess import detect
from parcnet_train.detection.types import DetectionOutputs


def random_outputs(images=2, anchors=200, classes=6, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return DetectionOutputs(
        scale * torch.randn(images, anchors, classes, generator=generator),
        torch.randn(images, anchors, 4, generator=generator),
        0.1 + 0.8 * torch.rand(anchors, 4, generator=generator),
    )


def reference(outputs, image, threshold, iou, candidates, per_image):
    """Return score, label and box of every object, best first."""
    probabilities = outputs.class_logits[image].softmax(dim=1)
    boxes = decode(outputs.box_offsets[image], outputs.anchors).clamp(0, 1)
    found = []
    for label in range(1, probabilities.shape[1]):
        scores = probabilities[:, label]
        order = scores.argsort(descending=True)
        order = order[scores[order] > threshold][:candidates]
        kept = order[naive_nms(boxes[order], scores[order], iou)].tolist()
        found += [(scores[anchor].item(), label, boxes[anchor].tolist()) for anchor in kept]
    return sorted(found, reverse=True)[:per_image]


@pytest.mark.parametrize(
    ("threshold", "iou", "candidates", "per_image"),
    [(0.01, 0.5, 400, 200), (0.0, 0.5, 60, 200), (0.05, 0.5, 400, 300), (0.2, 0.3, 20, 30)],
)
def test_detections_match_a_reference_implementation(threshold, iou, candidates, per_image):
    outputs = random_outputs()
    found = detect(outputs, threshold, iou, candidates, per_image)
    assert len(found) == 2
    for image, (boxes, scores, labels) in enumerate(found):
        expected = reference(outputs, image, threshold, iou, candidates, per_image)
        assert len(expected) > 10
        assert list(zip(scores.tolist(), labels.tolist(), boxes.tolist(), strict=True)) == expected


@pytest.mark.parametrize("per_image", [1, 10, 40, 1000])
def test_more_boxes_are_compared_if_the_best_are_too_few(per_image, monkeypatch):
    monkeypatch.setattr(postprocess, "EXAMINED", 2)
    examined, nms = [], torch.ops.torchvision.nms
    monkeypatch.setattr(
        torch.ops.torchvision, "nms", lambda *boxes: examined.append(len(boxes[1])) or nms(*boxes)
    )
    outputs = random_outputs(images=1, anchors=300, classes=3)
    (found,) = detect(outputs, 0.0, 0.1, per_image=per_image)
    expected = reference(outputs, 0, 0.0, 0.1, 300, per_image)
    assert found.scores.tolist() == [score for score, *_ in expected]
    assert found.labels.tolist() == [label for _, label, _ in expected]
    assert examined == [min(600, per_image * 2 ** (i + 1)) for i in range(len(examined))]
    assert (len(examined) > 1) == (per_image in (10, 40))


def test_every_setting_matters():
    outputs = random_outputs()
    settings = {"score_threshold": 0.2, "nms_iou": 0.2, "candidates": 50, "per_image": 20}
    counts = [len(detect(outputs)[0].scores)]
    counts += [len(detect(outputs, **{name: value})[0].scores) for name, value in settings.items()]
    assert max(counts[1:]) < counts[0]


def test_nms_is_separate_for_each_class():
    logits = torch.zeros(1, 2, 3)
    logits[0, 0, 1], logits[0, 1, 2] = 5, 4
    outputs = DetectionOutputs(logits, torch.zeros(1, 2, 4), torch.full((2, 4), 0.5))
    (found,) = detect(outputs, 0.3)
    assert found.labels.tolist() == [1, 2]
    assert found.boxes.tolist() == [[0.25, 0.25, 0.75, 0.75]] * 2
    expected = [logits[0, 0].softmax(0)[1].item(), logits[0, 1].softmax(0)[2].item()]
    assert found.scores.tolist() == pytest.approx(expected)


def test_background_is_never_detected():
    logits = torch.zeros(1, 5, 3)
    logits[..., 0] = 10
    logits[0, 3, 2] = 12
    outputs = DetectionOutputs(logits, torch.zeros(1, 5, 4), torch.full((5, 4), 0.5))
    (found,) = detect(outputs)
    assert found.labels.tolist() == [2]


def test_boxes_are_clipped_to_the_image():
    corners = torch.tensor([[[-0.2, 0.3, 0.4, 1.7], [0.1, 0.2, 0.3, 0.4]]])
    anchors = torch.tensor([[0.3, 0.7, 0.5, 0.5], [0.2, 0.3, 0.2, 0.2]])
    logits = torch.tensor([[[0.0, 9], [0, 8]]])
    (found,) = detect(DetectionOutputs(logits, encode(corners, anchors), anchors))
    expected = torch.tensor([[0, 0.3, 0.4, 1], [0.1, 0.2, 0.3, 0.4]])
    torch.testing.assert_close(found.boxes, expected)


def test_an_image_may_have_no_objects():
    outputs = random_outputs(images=3)
    outputs.class_logits[1, :, 0] = 50
    found = detect(outputs)
    assert [len(each.scores) > 0 for each in found] == [True, False, True]
    assert [each.shape for each in found[1]] == [(0, 4), (0,), (0,)]


def test_half_precision_outputs_give_float32_detections():
    outputs = random_outputs(images=1)
    low = DetectionOutputs(*(each.bfloat16() for each in outputs[:2]), outputs.anchors)
    same = DetectionOutputs(*(each.float() for each in low[:2]), outputs.anchors)
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = detect(low)
    (expected,) = detect(same)
    assert [each.dtype for each in found] == [torch.float32, torch.float32, torch.int64]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.tolist() == theirs.tolist()


def test_nan_outputs_give_no_detections():
    outputs = random_outputs(images=1)
    whole = detect(outputs)[0]
    outputs.class_logits[0, 7] = torch.nan
    found = detect(outputs)[0]
    assert found.scores.isfinite().all()
    assert abs(len(found.scores) - len(whole.scores)) < 20

"""The loss matches its definition, computed in loops over images in float64."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from detection.test_matching import definition, scene
from parcnet_train.data.batches import UNLABELED
from parcnet_train.detection.loss import mine, multibox_loss
from parcnet_train.detection.types import DetectionOutputs

CLASSES = 81


def outputs_for(anchors, images, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    shape = (images, len(anchors))
    logits = scale * torch.randn(*shape, CLASSES, generator=generator)
    offsets = scale * torch.randn(*shape, 4, generator=generator)
    return DetectionOutputs(logits.requires_grad_(), offsets.requires_grad_(), anchors)


def log_softmax(logits):
    shifted = logits - logits.max()
    return shifted - math.log(np.exp(shifted).sum())


def naive(anchors, logits, offsets, boxes, labels, smoothing):
    """Return box loss, class loss and positives of one image."""
    found, found_boxes = definition(anchors, boxes, labels)
    log_p = [log_softmax(row) for row in logits.detach().double().numpy()]
    entropies = [
        -(1 - smoothing) * row[label] - smoothing * row.mean()
        for row, label in zip(log_p, found, strict=True)
    ]
    positives = [anchor for anchor, label in enumerate(found) if label]
    negatives = [anchor for anchor, label in enumerate(found) if not label]
    negatives.sort(key=lambda anchor: log_p[anchor][0])
    classes = sum(entropies[anchor] for anchor in positives)
    classes += sum(entropies[anchor] for anchor in negatives[: 3 * len(positives)])
    distance = 0.0
    for anchor in positives:
        cx, cy, width, height = anchors[anchor].double().tolist()
        left, top, right, bottom = found_boxes[anchor]
        target = [
            ((left + right) / 2 - cx) / width / 0.1,
            ((top + bottom) / 2 - cy) / height / 0.1,
            math.log((right - left) / width) / 0.2,
            math.log((bottom - top) / height) / 0.2,
        ]
        for told, wanted in zip(offsets[anchor].tolist(), target, strict=True):
            miss = abs(told - wanted)
            distance += miss**2 / 2 if miss < 1 else miss - 0.5
    return distance, classes, len(positives)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_matches_the_definition(smoothing):
    anchors, boxes, labels = scene()
    outputs = outputs_for(anchors, len(boxes))
    loss = multibox_loss(outputs, boxes, labels, label_smoothing=smoothing)
    for image in range(len(boxes)):
        real = labels[image] != UNLABELED
        distance, classes, positives = naive(
            anchors, outputs[0][image], outputs[1][image], boxes[image][real],
            labels[image][real], smoothing,
        )  # fmt: skip
        assert loss.positives[image] == positives
        assert loss.boxes[image].item() == pytest.approx(distance, rel=1e-5)
        assert loss.classes[image].item() == pytest.approx(classes, rel=1e-5)
    assert loss.positives[1:].min() > 0


def test_label_smoothing_matches_torch():
    anchors, boxes, labels = scene()
    outputs = outputs_for(anchors, len(boxes))
    plain, smoothed = (multibox_loss(outputs, boxes, labels, s) for s in (0.0, 0.3))
    torch.testing.assert_close(plain.boxes, smoothed.boxes)
    # If all logits are equal, each entropy is log K, smoothed or not.
    flat = DetectionOutputs(torch.zeros_like(outputs.class_logits), *outputs[1:])
    expected = 4 * plain.positives * math.log(CLASSES)
    for smoothing in (0.0, 0.3):
        torch.testing.assert_close(
            multibox_loss(flat, boxes, labels, smoothing).classes, expected.float()
        )


def test_negatives_are_the_hardest_of_their_own_image():
    losses = torch.tensor([[0.1, 0.9, 0.5, 0.7, 0.3, 0.2], [9.0, 9, 9, 9, 9, 9]])
    positive = torch.tensor([[False, True, False, False, False, False], [False] * 6])
    assert mine(losses, positive).int().tolist() == [[0, 0, 1, 1, 1, 0], [0] * 6]


def test_the_first_of_equal_negatives_count():
    positive = torch.zeros(1, 1000, dtype=torch.bool)
    positive[0, 500:510] = True
    assert mine(torch.ones(1, 1000), positive)[0].nonzero().flatten().tolist() == list(range(30))


def test_all_negatives_count_if_there_are_few():
    positive = torch.tensor([[True, True, False, False, False]])
    assert mine(torch.rand(1, 5), positive).tolist() == [[False, False, True, True, True]]


def test_only_counted_anchors_have_gradients():
    anchors, boxes, labels = scene()
    outputs = outputs_for(anchors, len(boxes))
    loss = multibox_loss(outputs, boxes, labels)
    (loss.boxes.sum() + loss.classes.sum()).backward()
    moved = (outputs.class_logits.grad != 0).any(dim=2).sum(dim=1)
    assert moved.tolist() == (4 * loss.positives).tolist()
    assert (outputs.box_offsets.grad != 0).any(dim=2).sum(dim=1).tolist() == loss.positives.tolist()


@pytest.mark.parametrize("most", [0, 3])
def test_loss_and_gradients_without_objects_are_0(most):
    anchors, *_ = scene()
    outputs = outputs_for(anchors, 2)
    loss = multibox_loss(outputs, torch.zeros(2, most, 4), torch.full((2, most), UNLABELED))
    assert [each.tolist() for each in loss] == [[0, 0]] * 3
    (loss.boxes.sum() + loss.classes.sum()).backward()
    for tensor in outputs[:2]:
        assert tensor.grad.count_nonzero() == 0


def test_loss_is_computed_in_float32_under_autocast():
    anchors, boxes, labels = scene()
    outputs = outputs_for(anchors, len(boxes))
    low = DetectionOutputs(*(tensor.bfloat16() for tensor in outputs[:2]), anchors)
    same = DetectionOutputs(*(tensor.float() for tensor in low[:2]), anchors)
    expected = multibox_loss(same, boxes, labels, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = multibox_loss(low, boxes, labels, 0.1)
    assert loss.boxes.dtype == loss.classes.dtype == torch.float32
    for mine_, theirs in zip(loss, expected, strict=True):
        torch.testing.assert_close(mine_, theirs, rtol=0, atol=0)


def test_huge_outputs_and_flat_boxes_stay_finite():
    anchors, boxes, labels = scene()
    boxes[1, 0] = torch.tensor([0.3, 0.3, 0.3, 0.5])
    outputs = outputs_for(anchors, len(boxes), scale=1e4)
    loss = multibox_loss(outputs, boxes, labels, 0.1)
    (loss.boxes.sum() + loss.classes.sum()).backward()
    for tensor in (*loss[:2], *(output.grad for output in outputs[:2])):
        assert tensor.isfinite().all()


def test_loss_does_not_synchronize_the_device():
    anchors, boxes, labels = (
        tensor.to("meta") for tensor in scene()
    )  # meta tensors have no values to wait for
    outputs = DetectionOutputs(*(each.to("meta") for each in outputs_for(anchors, 6)[:2]), anchors)
    leaves = outputs._replace(class_logits=outputs.class_logits.detach().requires_grad_())
    loss = multibox_loss(leaves, boxes, labels, 0.1)
    (loss.classes.sum() / loss.positives.sum()).backward()
    assert leaves.class_logits.grad.shape == (6, 300, CLASSES)


def test_class_gradients_match_torch():
    anchors, boxes, labels = scene(images=2)
    outputs = outputs_for(anchors, 2)
    multibox_loss(outputs, boxes, labels, 0.2).classes.sum().backward()
    counted = (outputs.class_logits.grad != 0).any(dim=2)
    found, _ = definition(anchors, boxes[1][labels[1] > 0], labels[1][labels[1] > 0])
    again = outputs.class_logits.detach().clone().requires_grad_()
    functional.cross_entropy(
        again[1][counted[1]], torch.tensor(found)[counted[1]], label_smoothing=0.2, reduction="sum"
    ).backward()
    torch.testing.assert_close(outputs.class_logits.grad[1], again.grad[1])

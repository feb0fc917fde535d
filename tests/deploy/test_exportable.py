"""Networks as they are exported: outputs, names and metadata."""

import json

import pytest
import torch

from lively import lively
from parcnet_train.deploy.exportable import Decoding, Exportable
from parcnet_train.detection.boxes import decode

SIZE = (64, 96)


@pytest.fixture(scope="module")
def detector():
    return lively("parcnet_xs", "detection", classes=4)


def test_classifier_outputs_logits():
    model, images = lively("parcnet_xs"), torch.rand(2, 3, *SIZE)
    network = Exportable(model, SIZE)
    with torch.no_grad():
        (logits,) = network(images)
        torch.testing.assert_close(logits, model(images), rtol=1e-3, atol=1e-4)
    assert network.names == ("logits",)
    assert network.example().shape == (1, 3, *SIZE)


def test_segmentation_network_outputs_classes_with_argmax():
    model, images = lively("mobilevit_xxs", "segmentation"), torch.rand(1, 3, *SIZE)
    network = Exportable(model, SIZE, argmax=True)
    with torch.no_grad():
        (classes,) = network(images)
        assert (classes == model(images).argmax(1)).double().mean() > 0.999
    assert network.names == ("classes",)


def test_detector_outputs_the_best_candidates_of_each_class(detector):
    images = torch.rand(1, 3, *SIZE)
    network = Exportable(detector, SIZE, decoding=Decoding(candidates=5))
    with torch.no_grad():
        boxes, scores = network(images)
        outputs = network.network(images)
    assert (boxes.shape, scores.shape) == ((3, 5, 4), (3, 5))  # no background
    assert network.names == ("boxes", "scores", "labels")
    expected = outputs.class_logits.softmax(-1)[0, :, 2].sort(descending=True)
    assert torch.equal(scores[1], expected.values[:5])
    whole = decode(outputs.box_offsets, outputs.anchors)[0].clamp(0, 1)
    assert torch.equal(boxes[1], whole[expected.indices[:5]])


def test_description_has_classes_size_and_anchors(detector):
    words = Exportable(detector, SIZE).description(["background", "a", "b", "c"])
    assert json.loads(words["class_names"]) == ["background", "a", "b", "c"]
    assert json.loads(words["image_size"]) == [64, 96]
    assert json.loads(words["anchors"])["map_sizes"][-1] == [1, 1]
    assert words["task"] == "detection"
    assert all(isinstance(text, str) for text in words.values())

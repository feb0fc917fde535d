"""Networks as they are exported: outputs, names and metadata."""

import json
import math

import numpy as np
import pytest
import torch

from lively import lively
from parcnet_train.deploy.exportable import Decoding, Exportable, as_input
from parcnet_train.detection.boxes import decode
from parcnet_train.predict.tasks import ClassPredictor, ObjectPredictor, PixelPredictor

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
    variances = json.loads(words["variances"])
    assert (variances, float(words["max_log_size"])) == ([0.1, 0.2], math.log(1000 / 16))
    assert words["task"] == "detection"
    assert all(isinstance(text, str) for text in words.values())


def test_metadata_tell_how_to_prepare_an_image():
    network = Exportable(lively("parcnet_xs"), SIZE)
    about = network.about(list("abcdefghij"), ClassPredictor(list("abcdefghij"), SIZE).about())
    assert about["resize"] == [72, 108]  # 9/8 of the size
    assert (about["crop"], about["keep_aspect"], about["fill"]) == ([64, 96], True, None)
    assert (about["scale"], about["mean"], about["std"]) == (1 / 255, [0, 0, 0], [1, 1, 1])
    assert about["interpolation"] == "bilinear, not antialiased"
    assert (about["layout"], about["type"]) == ("NCHW", "float32")
    letterbox = ObjectPredictor(["background", "a"], SIZE, keep_aspect=True).about()
    assert (letterbox["resize"], letterbox["fill"]) == ([64, 96], 114)
    assert PixelPredictor(["a", "b"], SIZE, evaluation="windows").about()["resize"] is None


def test_pixels_as_cameras_deliver_them():
    model, pixels = lively("parcnet_xs"), torch.randint(0, 256, (2, *SIZE, 3), dtype=torch.uint8)
    network = Exportable(model, SIZE, preprocess=True)
    assert (network.example().shape, network.example().dtype) == ((1, *SIZE, 3), torch.uint8)
    images = pixels.permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        torch.testing.assert_close(network(pixels)[0], model(images), rtol=1e-3, atol=1e-4)
    metadata = network.description(list("abcdefghij"))
    np.testing.assert_array_equal(as_input(images.numpy(), metadata), pixels)
    assert (metadata["layout"], metadata["type"], metadata["scale"]) == ("NHWC", "uint8", "1")

import numpy as np
import pytest
import torch

from lively import lively
from parcnet_train.deploy.exportable import Decoding, Exportable
from parcnet_train.deploy.formats.onnx import OnnxFile, write_onnx
from parcnet_train.deploy.formats.verify import Comparing, Difference, FileModel, missing
from parcnet_train.detection.postprocess import detect
from parcnet_train.detection.types import Detections

SIZE = (64, 96)


class Shifted:
    """File whose outputs are those of torch plus a constant."""

    def __init__(self, model, shift):
        self.model, self.shift = model, shift
        self.names = ["logits"]
        self.metadata = {}
        self.batches = []

    def run(self, images):
        self.batches.append(len(images))
        with torch.no_grad():
            return {"logits": self.model(torch.from_numpy(images)).numpy() + self.shift}


@pytest.fixture(scope="module")
def classifier():
    return lively("parcnet_xs")


def images_of(number, size=SIZE):
    torch.manual_seed(1)
    return torch.rand(number, 3, *size)


def test_differences_cover_all_images():
    rng = np.random.default_rng(0)
    expected, found = rng.standard_normal((2, 30, 5)).astype(np.float32)
    difference = Difference()
    for first in range(0, 30, 7):
        difference.add(expected[first : first + 7], found[first : first + 7])
    apart = np.abs(expected.astype(np.float64) - found)
    assert difference.maximum == pytest.approx(apart.max())
    assert difference.mean == pytest.approx(apart.mean())
    assert difference.spread == pytest.approx(expected.astype(np.float64).std())
    assert difference.is_within(difference.maximum / difference.spread * 1.001)
    assert not difference.is_within(difference.maximum / difference.spread * 0.999)


def test_wrong_shapes_and_nan_exceed_every_tolerance():
    for found in (np.zeros((2, 4)), np.full((2, 3), np.nan)):
        difference = Difference()
        difference.add(np.arange(6.0).reshape(2, 3), found)
        assert not difference.is_within(1e9)


@pytest.mark.parametrize(("batch", "batches"), [(True, [3]), (False, [1, 1, 1])])
def test_file_is_compared_on_every_image(classifier, batch, batches):
    file = Shifted(classifier, 0.5)
    comparing = Comparing(classifier, Exportable(classifier, SIZE), file, batch)
    images = (images_of(3) * 255).round().byte()
    with torch.no_grad():
        logits = comparing(images)
        assert torch.equal(logits, classifier(images))
    assert file.batches == batches
    results = comparing.results()
    assert results["export/images"] == 3
    assert results["export/max_difference/logits"] == pytest.approx(0.5, rel=1e-4)
    assert results["export/mean_difference/logits"] == pytest.approx(0.5, rel=1e-4)
    spread = results["export/spread/logits"]
    assert spread == pytest.approx(float(logits.std(correction=0)))
    assert comparing.faults(0.51 / spread) == []
    (fault,) = comparing.faults(1e-4)
    assert "logits differs by 0.5 " in fault
    assert "0.0001 of the output's standard deviation" in fault


def test_file_model_returns_the_logits_of_the_file(classifier):
    found = FileModel(Shifted(classifier, 1.0), None, batch=True)(images_of(2))
    with torch.no_grad():
        torch.testing.assert_close(found, classifier(images_of(2)) + 1)


def test_file_model_returns_the_detections_of_the_file(tmp_path):
    detector, images = lively("parcnet_xs", "detection"), images_of(2)
    network = Exportable(detector, SIZE)
    write_onnx(network, tmp_path / "detector.onnx", {})
    file = OnnxFile(tmp_path / "detector.onnx")
    with torch.no_grad():
        expected = detector(images)
    found = FileModel(file, network.network.head.anchors, batch=True)(images)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.std()))
    comparing = Comparing(detector, network, file, batch=True)
    with torch.no_grad():
        comparing(images)
    assert comparing.differences.keys() == {"class_logits", "box_offsets"}
    assert comparing.faults(1e-4) == []


class Objects:
    """File that outputs the objects of torch except the last few."""

    def __init__(self, detector, left_out):
        self.names, self.metadata = ["boxes", "scores", "labels"], {}
        self.detector, self.left_out = detector, left_out

    def run(self, images):
        with torch.no_grad():
            (found,) = detect(self.detector(torch.from_numpy(images)))
        kept = len(found.scores) - self.left_out
        return {name: each[:kept].numpy() for name, each in found._asdict().items()}


@pytest.mark.parametrize("left_out", [0, 10])
def test_missing_objects_are_counted(left_out):
    detector = lively("parcnet_xs", "detection")
    network = Exportable(detector, SIZE, decoding=Decoding())
    comparing = Comparing(detector, network, Objects(detector, left_out), batch=False)
    with torch.no_grad():
        comparing(images_of(2))
    share = comparing.results()["export/others/objects"]
    if left_out:
        assert share > 0.05
        (fault,) = comparing.faults(1e-4)
        assert "% of the objects differ" in fault
        assert "1.0%" in fault
    else:
        assert share == 0
        assert comparing.faults(1e-4) == []


def test_objects_match_only_with_equal_class_score_and_box():
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5]] * 3)
    expected = Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 2, 3]))
    found = {
        "boxes": boxes.numpy() + np.array([[0.0], [0.0], [0.01]]),
        "scores": np.array([0.9, 0.85, 0.7]),
        "labels": np.array([1, 2, 3]),
    }
    assert missing(expected, found) == 2
    assert missing(expected, {**found, "labels": np.array([2, 2, 3])}) == 3
    assert missing(expected, {name: each[:0] for name, each in found.items()}) == 3


def test_fewer_bits_may_differ_but_must_be_finite():
    comparing = Comparing(
        torch.nn.Identity(), Exportable(lively("parcnet_xs"), (32, 32)), None, True
    )
    difference = comparing.differences.setdefault("logits", Difference())
    expected = np.random.default_rng(0).normal(size=1000)
    difference.add(expected, expected + 0.001)
    assert comparing.faults(1e-4)
    assert [comparing.faults(1e-4, each) for each in ("float16", "int8")] == [[], []]
    difference.add(expected, expected + 1)
    assert comparing.faults(1e-4, "float16")
    assert not comparing.faults(1e-4, "int8")
    difference.add(expected, expected * np.nan)
    assert comparing.faults(1e-4, "int8")

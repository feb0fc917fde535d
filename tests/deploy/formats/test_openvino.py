"""OpenVINO files: outputs, operators and metadata."""

import json
import sys
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13

from exporting import (
    NAMES,
    assert_equal_to_torch,
    detector_of_all_scores,
    images_of,
    outputs_of,
    written,
)
from lively import lively
from parcnet_train import __version__
from parcnet_train.deploy.exportable import Decoding, Exportable, FileOptions
from parcnet_train.deploy.formats.openvino import count_openvino, read, write_openvino_network
from parcnet_train.deploy.formats.verify import missing
from parcnet_train.detection.postprocess import detect
from parcnet_train.errors import ConfigError

SIZE = (64, 96)

# Operators for which OpenVINO's code for SSE4.1 processors is broken ("bad combination").
FRAGILE = {
    "Interpolate": lambda x: opset13.interpolate(
        x, np.array([16, 16]), "linear_onnx", "sizes", axes=np.array([2, 3])
    ),
    "TopK": lambda x: opset13.topk(x, np.int64(2), -1, "max", "value").output(0),
}


def skip_without(operator):
    """Skip a test if OpenVINO cannot compile a network that consists of this operator."""
    x = opset13.parameter([1, 4, 8, 8], np.float32)
    model = openvino.Model([opset13.result(FRAGILE[operator](x))], [x], operator)
    try:
        openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        pytest.skip(f"OpenVINO has no {operator} for this processor: {error}")


@pytest.mark.parametrize(
    ("backbone", "task", "size"),
    [
        ("parcnet_s", "classification", SIZE),
        ("parcnet_xs", "detection", SIZE),
        ("mobilevit_xxs", "segmentation", (128, 64)),
    ],
)
def test_outputs_match_pytorch(backbone, task, size, tmp_path):
    if task == "segmentation":
        skip_without("Interpolate")
    assert_equal_to_torch("openvino", backbone, task, size, tmp_path / "network.xml")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier and its file."""
    path = tmp_path_factory.mktemp("openvino") / "network.xml"
    model = lively("parcnet_xs")
    return model, path, written("openvino", model, SIZE, path)


def test_batch_size_is_free(classifier):
    model, _, file = classifier
    images = images_of(SIZE, 3)
    expected = outputs_of(model, images)[0].numpy()
    for first in range(3):
        logits = file.run(images[first:].numpy())["logits"]
        np.testing.assert_allclose(logits, expected[first:], atol=1e-4 * expected.std())


def test_batch_size_can_be_fixed_to_one(classifier, tmp_path):
    path = tmp_path / "one.xml"
    written("openvino", classifier[0], SIZE, path, FileOptions(dynamic_batch=False))
    assert list(read(path).inputs[0].shape) == [1, 3, *SIZE]


def test_metadata_describes_the_network(classifier):
    _, path, file = classifier
    assert sorted(each.name for each in path.parent.iterdir()) == ["network.bin", "network.xml"]
    assert file.names == ["logits"]
    assert json.loads(file.metadata["class_names"]) == NAMES
    assert json.loads(file.metadata["image_size"]) == list(SIZE)
    assert file.metadata["parcnet_train_version"] == __version__
    assert file.metadata["input"] == "RGB, float32 from 0 to 1, NCHW"


def test_operator_counts_match_the_xml_file(classifier):
    layers = ElementTree.parse(classifier[1]).getroot().find("layers")
    expected = Counter(each.get("type") for each in layers)
    counts = count_openvino(classifier[1])
    assert dict(counts, Const=1, Parameter=1, Result=1).keys() == expected.keys()
    assert counts == {name: expected[name] for name in counts}


def test_objects_match_pytorch(tmp_path):
    skip_without("TopK")
    detector, size, decoding = detector_of_all_scores(), (128, 192), Decoding(0.05, 0.45, 50, 40)
    file = written("openvino", detector, size, tmp_path / "objects.xml", decoding=decoding)
    for image in images_of(size):
        found = file.run(image[None].numpy())
        with torch.no_grad():
            (expected,) = detect(detector(image[None]), 0.05, 0.45, 50, 40)
        assert len(found["scores"]) == len(expected.scores) == 40
        assert np.all(np.diff(found["scores"]) <= 0)
        assert missing(expected, found) == 0
    blank = file.run(np.zeros((1, 3, *size), np.float32))
    assert not np.array_equal(blank["scores"], found["scores"])


def test_conversion_reports_nothing_over_the_network(classifier, tmp_path, monkeypatch):
    def report(*_, **__):
        raise AssertionError("OpenVINO's makers would hear of a conversion")

    monkeypatch.setattr("openvino_telemetry.Telemetry.init", report)
    monkeypatch.setattr("openvino_telemetry.Telemetry.send_event", report)
    written("openvino", classifier[0], SIZE, tmp_path / "quiet.xml")


def test_missing_package_is_named(classifier, tmp_path, monkeypatch):
    network = Exportable(classifier[0], SIZE)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"openvino is not installed.*pip install 'parcnet-train"):
        write_openvino_network(network, tmp_path / "none.xml", {})

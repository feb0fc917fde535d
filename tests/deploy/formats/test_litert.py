"""LiteRT files: outputs, operators, metadata, float16 and objects."""

import json
import sys

import numpy as np
import pytest
import torch

from exporting import (
    NAMES,
    detector_of_all_scores,
    images_of,
    outputs_of,
    written,
)
from lively import lively
from parcnet_train.deploy.exportable import Decoding, Exportable, FileOptions
from parcnet_train.deploy.formats.formats import FORMATS
from parcnet_train.deploy.formats.litert import count_litert, write_litert
from parcnet_train.deploy.formats.verify import missing
from parcnet_train.detection.postprocess import detect
from parcnet_train.errors import ConfigError, TrainingError

SIZE = (64, 96)


def path_in(folder):
    return folder / "network.tflite"


@pytest.mark.runtimes
def test_outputs_match_pytorch(tmp_path):
    model, image = lively("parc_convnext_xt", "segmentation"), images_of(SIZE, 1)
    file = written("litert", model, SIZE, path_in(tmp_path))
    (expected,) = outputs_of(model, image)
    found = file.run(image.numpy())
    assert found.keys() == {"logits"}
    np.testing.assert_allclose(found["logits"], expected, rtol=0, atol=1e-4 * float(expected.std()))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A network, and the path of its file."""
    model, path = lively("parcnet_xs", "detection"), path_in(tmp_path_factory.mktemp("detector"))
    written("litert", model, SIZE, path)
    return model, path


@pytest.mark.runtimes
def test_outputs_have_the_names_of_the_metadata(detector):
    model, path = detector
    image = images_of(SIZE, 1)
    file = FORMATS["litert"].open(path)
    assert file.names == ["class_logits", "box_offsets"]
    found = file.run(image.numpy())
    for name, expected in zip(file.names, outputs_of(model, image), strict=True):
        assert found[name].shape == expected.shape
        atol = 1e-4 * float(expected.std())
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=atol)


@pytest.mark.runtimes
def test_metadata_and_operators(detector):
    _, path = detector
    metadata = FORMATS["litert"].open(path).metadata
    assert json.loads(metadata["class_names"]) == NAMES
    assert json.loads(metadata["image_size"]) == list(SIZE)
    assert json.dumps(metadata).encode() in path.read_bytes()
    counts = count_litert(path)
    assert next(iter(counts)) == "CONV_2D"
    assert counts["DEPTHWISE_CONV_2D"] > 10
    assert counts["TRANSPOSE"] == 1  # of the images: everything else is NHWC


@pytest.mark.runtimes
def test_weights_are_stored_as_float16(detector, tmp_path):
    model, path = detector
    image = images_of(SIZE, 1)
    file = written("litert", model, SIZE, path_in(tmp_path), FileOptions(half=True))
    assert path_in(tmp_path).stat().st_size < 0.6 * path.stat().st_size
    found = file.run(image.numpy())
    for name, expected in zip(file.names, outputs_of(model, image), strict=True):
        assert found[name].dtype == np.float32
        differences = np.abs(found[name] - expected.numpy())
        assert 0 < differences.mean() < 1e-2 * float(expected.std())


@pytest.mark.runtimes
def test_objects_are_those_of_pytorch(tmp_path):
    model, image = detector_of_all_scores(), images_of(SIZE, 1)
    decoding = Decoding(score_threshold=0.05, nms_iou=0.4, candidates=100, per_image=50)
    file = written("litert", model, SIZE, path_in(tmp_path), decoding=decoding)
    found = file.run(image.numpy())
    with torch.no_grad():
        (expected,) = detect(model(image), 0.05, 0.4, 100, 50)
    assert len(expected.scores) == 50
    np.testing.assert_allclose(found["scores"], expected.scores, atol=1e-5)
    # Objects with nearly equal scores may change places.
    assert missing(expected, found) == 0


@pytest.mark.runtimes
def test_no_object_gives_empty_outputs(tmp_path):
    model, decoding = lively("parcnet_xs", "detection"), Decoding(score_threshold=0.9999999)
    file = written("litert", model, SIZE, path_in(tmp_path), decoding=decoding)
    found = file.run(images_of(SIZE, 1).numpy())
    assert {name: each.shape for name, each in found.items()} == {
        "boxes": (0, 4),
        "scores": (0,),
        "labels": (0,),
    }


class Unknown(Exportable):
    """A network with an operator that LiteRT lacks."""

    def forward(self, images):
        return (torch.linalg.det(super().forward(images)[0][:, :9].reshape(-1, 3, 3)),)


@pytest.mark.runtimes
def test_a_network_that_cannot_be_converted_is_one_line(capfd, tmp_path):
    network = Unknown(lively("parcnet_xs"), SIZE)
    with pytest.raises(TrainingError, match=r"network\.tflite: LiteRT cannot convert") as raised:
        write_litert(network, path_in(tmp_path), {})
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(ConfigError, match=r"pip install 'parcnet-train\[litert\]'"):
        write_litert(Exportable(lively("parcnet_xs"), SIZE), path_in(tmp_path), {})

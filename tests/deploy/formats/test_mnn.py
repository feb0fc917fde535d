"""MNN files: outputs and errors."""

import json
import sys

import numpy as np
import pytest
import torch

from exporting import detector_of_all_scores, images_of, write_network, written
from lively import lively, used_to_images
from parcnet_train.deploy.bake.bake import bake
from parcnet_train.deploy.exportable import Decoding
from parcnet_train.deploy.formats.mnn import read_description, write_mnn
from parcnet_train.deploy.formats.verify import missing
from parcnet_train.deploy.runtimes import open_model
from parcnet_train.detection.postprocess import detect
from parcnet_train.errors import ConfigError, TrainingError

PUBLISHED = (256, 256)


@pytest.mark.parametrize(
    "backbone", ["parcnet_s", pytest.param("mobilevit_s", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("size", [(64, 96), pytest.param(PUBLISHED, marks=pytest.mark.slow)])
def test_outputs_match_pytorch(backbone, size, tmp_path):
    network = used_to_images(lively(backbone, classes=1000), size)
    images = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    onnx, path = tmp_path / "network.onnx", tmp_path / "network.mnn"
    write_network(bake(network, size), size, onnx)
    names = [f"class {number}, é" for number in range(1000)]
    description = {"task": "classification", "class_names": json.dumps(names)}
    write_mnn(onnx, path, description)
    assert read_description(path) == description
    found = open_model("mnn", path)(images)["logits"]
    spread = expected.std()
    assert np.abs(found - expected).max() < 1e-3 * spread
    # The outputs depend on the image, by more than the tolerance.
    other = open_model("mnn", path)(np.zeros_like(images))["logits"]
    assert np.abs(other - expected).max() > 1e-2 * spread


def test_unreadable_file_raises_a_training_error(tmp_path):
    text = tmp_path / "network.onnx"
    text.write_text("words")
    with pytest.raises(TrainingError, match=r"network\.onnx: MNN cannot convert .*ONNX Runtime"):
        write_mnn(text, tmp_path / "network.mnn", {})
    assert [each.name for each in tmp_path.iterdir()] == ["network.onnx"]


def test_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "MNN", None)
    with pytest.raises(ConfigError, match=r"MNN is not installed.*pip install 'parcnet-train\[mnn"):
        write_mnn(tmp_path / "network.onnx", tmp_path / "network.mnn", {})


@pytest.mark.parametrize(("threshold", "count"), [(0.05, 40), (0.9999, 0)])
def test_objects_match_pytorch(threshold, count, tmp_path):
    detector, size = detector_of_all_scores(), (64, 96)
    decoding = Decoding(threshold, 0.45, 50, 40)
    file = written("mnn", detector, size, tmp_path / "objects.mnn", decoding=decoding)
    (image,) = images_of(size, 1)
    found = file.run(image[None].numpy())
    with torch.no_grad():
        (expected,) = detect(detector(image[None]), threshold, 0.45, 50, 40)
    assert len(found["scores"]) == len(expected.scores) == count
    assert missing(expected, found) == 0

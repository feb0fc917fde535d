"""MNN files: outputs and errors."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lively import lively
from parcnet_train.benchmarks.latency import write_network
from parcnet_train.deploy.bake.bake import bake
from parcnet_train.deploy.formats.mnn import read_description, write_mnn
from parcnet_train.deploy.runtimes import open_model
from parcnet_train.errors import ConfigError, TrainingError

PUBLISHED = (256, 256)


def used_to_images(network, size):
    """Set BatchNorm statistics from some images, so that the outputs depend on the image."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(8, 3, 4, 4, generator=generator)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.inference_mode():
        network.train()(functional.interpolate(coarse, size))
    return network.eval()


@pytest.mark.parametrize("backbone", ["parcnet_s", "mobilevit_s"])
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

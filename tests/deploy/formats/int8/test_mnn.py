"""MNN files in int8: accuracy, calibration and metadata."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from exporting import write_network
from lively import lively
from parcnet_train.deploy.exportable import Exportable
from parcnet_train.deploy.formats.int8 import mnn as mnn_int8
from parcnet_train.deploy.formats.int8.mnn import QuantizableMnn
from parcnet_train.deploy.formats.mnn import MnnFile, write_mnn, write_mnn_network
from parcnet_train.errors import ConfigError, TrainingError

SIZE = (64, 96)


def quantize(source, target, images):
    with tempfile.TemporaryDirectory() as folder:
        QuantizableMnn(source, images, Path(folder)).write(target)


def pictures(count):
    images = np.random.default_rng(0).random((count, 1, 3, *SIZE), dtype=np.float32)
    return list(images)


def written(path, task="classification"):
    exportable = Exportable(lively("parcnet_xs", task), SIZE)
    write_mnn_network(exportable, path, exportable.description(list("abcdefghij")))
    return path


SLOWLY = [pytest.param(task, marks=pytest.mark.slow) for task in ("detection", "segmentation")]


@pytest.mark.parametrize("task", ["classification", *SLOWLY])
def test_int8_file_is_smaller_and_close_and_keeps_the_metadata(task, tmp_path):
    source, target, images = written(tmp_path / "float.mnn", task), tmp_path / "8.mnn", pictures(8)
    quantize(source, target, images)
    before, after = MnnFile(source), MnnFile(target)
    assert after.metadata == {**before.metadata, "precision": "int8"}
    assert target.stat().st_size < 0.4 * source.stat().st_size
    batch = np.concatenate(images[:3])
    expected, found = before.run(batch), after.run(batch)
    assert list(found) == list(expected)
    for name, truth in expected.items():
        assert 0 < (found[name] - truth).std() < 0.1 * truth.std()


class Channel(nn.Module):
    """Convolution that outputs one channel of the images."""

    def __init__(self, channel):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        self.conv.weight.data = torch.eye(3)[channel].reshape(1, 3, 1, 1)

    def forward(self, images):
        return self.conv(images)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_ranges_come_from_the_calibration_images(channel, tmp_path, monkeypatch):
    """The range of an int8 map ends at the largest calibration value, which differs by channel."""
    monkeypatch.setattr(mnn_int8, "BATCH_PIXELS", 2 * SIZE[0] * SIZE[1])
    write_network(Channel(channel), SIZE, tmp_path / "channel.onnx")
    write_mnn(tmp_path / "channel.onnx", tmp_path / "channel.mnn", {"outputs": '["logits"]'})
    largest = np.array([0.2, 0.4, 0.8], dtype=np.float32).reshape(1, 3, 1, 1)
    dark, light = pictures(2)
    calibration = [0.1 * dark * largest, light * largest, light]  # the third one exceeds the batch
    quantize(tmp_path / "channel.mnn", tmp_path / "int8.mnn", calibration)
    white = np.ones((1, 3, *SIZE), dtype=np.float32)
    found = MnnFile(tmp_path / "int8.mnn").run(white)["logits"]
    np.testing.assert_allclose(found, largest[0, channel, 0, 0], rtol=0.02)


def test_unreadable_file_raises_a_training_error(tmp_path):
    text = tmp_path / "network.mnn"
    text.write_text("words")
    match = r"network\.mnn: MNN cannot quantize .*export\.precision=float32$"
    with pytest.raises(TrainingError, match=match):
        quantize(text, tmp_path / "int8.mnn", pictures(1))
    assert [each.name for each in tmp_path.iterdir()] == ["network.mnn"]


def test_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "MNN", None)
    with pytest.raises(ConfigError, match=r"MNN is not installed.*pip install 'parcnet-train\[mnn"):
        quantize(tmp_path / "network.mnn", tmp_path / "int8.mnn", pictures(1))

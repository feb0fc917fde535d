"""OpenVINO files in int8: ranges, zero points and metadata."""

import logging

import numpy as np
import pytest
import torch

from exporting import NAMES, images_of, outputs_of
from lively import lively
from parcnet_train.deploy.exportable import Exportable, Scheme
from parcnet_train.deploy.formats.int8.openvino import QuantizableOpenvino
from parcnet_train.deploy.formats.openvino import (
    OpenvinoFile,
    count_openvino,
    read,
    write_openvino_network,
)

SIZE = (64, 64)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network, its float32 file, and images that it is calibrated on."""
    model = lively("parcnet_xs", "classification", "backbone.depths=[1,1,1]")
    path = tmp_path_factory.mktemp("float") / "float.xml"
    exportable = Exportable(model, SIZE)
    write_openvino_network(exportable, path, exportable.description(NAMES))
    return model, path, [each[None].numpy() for each in images_of(SIZE, 8)]


def test_nncf_leaves_the_loggers_of_others_alone(network, tmp_path, caplog):
    QuantizableOpenvino(network[1], network[2], tmp_path)
    assert logging.getLoggerClass() is logging.Logger
    logging.getLogger("parcnet_train").warning("heard")
    assert "heard" in caplog.text


def ranges_of(path):
    """Smallest and largest value of each quantized activation."""
    kept = [each for each in read(path).get_ops() if each.get_type_name() == "FakeQuantize"]
    bounds = [
        [each.input_value(place).get_node().get_data().ravel() for place in (1, 2)] for each in kept
    ]
    return [(float(low[0]), float(high[0])) for low, high in bounds if low.size == 1]


def test_outputs_are_near_and_the_description_says_int8(network, tmp_path):
    model, path, images = network
    QuantizableOpenvino(path, images, tmp_path).write(tmp_path / "int8.xml")
    assert count_openvino(tmp_path / "int8.xml")["FakeQuantize"] > 20
    file = OpenvinoFile(tmp_path / "int8.xml")
    before = OpenvinoFile(path).metadata
    assert file.metadata == {**before, "precision": "int8"}
    batch = torch.from_numpy(np.concatenate(images))
    (expected,) = outputs_of(model, batch)
    noise = ((file.run(batch.numpy())["logits"] - expected.numpy()) ** 2).mean()
    assert 0 < noise < 0.05 * float(expected.var())


def test_symmetric_ranges_are_those_of_zero_points_of_0(network, tmp_path):
    _, path, images = network
    QuantizableOpenvino(path, images, tmp_path, Scheme(symmetric=True)).write(tmp_path / "int8.xml")
    ranges = ranges_of(tmp_path / "int8.xml")
    assert len(ranges) > 10
    # Signed: -128 to 127 steps of one size, or only positive values, from 0.
    assert all(
        low == 0 or low / high == pytest.approx(-128 / 127, rel=1e-3) for low, high in ranges
    )


@pytest.mark.slow
def test_a_percentile_narrows_the_ranges(network, tmp_path):
    _, path, images = network
    widths = []
    for percentile in (None, 90.0):
        scheme = Scheme(percentile=percentile)
        QuantizableOpenvino(path, images, tmp_path, scheme).write(tmp_path / "int8.xml")
        widths.append([high - low for low, high in ranges_of(tmp_path / "int8.xml")])
    narrower = np.array(widths[1]) < np.array(widths[0])
    assert narrower.mean() > 0.8

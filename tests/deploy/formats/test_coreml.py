"""Core ML packages: their programs, computed without Core ML, and their metadata."""

import json
import sys

import numpy as np
import pytest

from exporting import NAMES, images_of, outputs_of
from lively import lively
from mil import computed
from parcnet_train import __version__
from parcnet_train.deploy.exportable import Exportable
from parcnet_train.deploy.formats.coreml import count_coreml, read, write_coreml
from parcnet_train.errors import ConfigError

SIZE = (64, 96)
FLOAT32 = 65568  # in Core ML's FeatureTypes.proto


def written(model, size, path):
    network = Exportable(model, size)
    write_coreml(network, path, network.description(NAMES))
    return path


@pytest.mark.parametrize(
    ("backbone", "task", "size"),
    [
        pytest.param("parcnet_xs", "detection", SIZE, marks=pytest.mark.slow),
        pytest.param("mobilevit_xxs", "segmentation", (128, 64), marks=pytest.mark.slow),
    ],
)
def test_program_computes_the_network(backbone, task, size, tmp_path):
    model = lively(backbone, task)
    path = written(model, size, tmp_path / "network.mlpackage")
    (image,) = images_of(size, 1).split(1)
    found = computed(path, image)
    assert list(found) == [each.name for each in read(path).description.output]
    for expected, ours in zip(outputs_of(model, image), found.values(), strict=True):
        spread = float(expected.std())
        np.testing.assert_allclose(ours, expected.numpy(), rtol=0, atol=1e-4 * spread)


def test_metadata_describes_the_network(tmp_path, capfd):
    path = written(lively("parcnet_xs"), SIZE, tmp_path / "network.mlpackage")
    assert capfd.readouterr() == ("", "")
    assert [each.name for each in tmp_path.iterdir()] == ["network.mlpackage"]
    said = read(path).description
    assert [(each.name, each.type.multiArrayType) for each in said.input] == [
        ("images", type(said.input[0].type.multiArrayType)(shape=[1, 3, *SIZE], dataType=FLOAT32))
    ]
    metadata = dict(said.metadata.userDefined)
    assert json.loads(metadata["class_names"]) == NAMES
    assert json.loads(metadata["image_size"]) == list(SIZE)
    assert metadata["parcnet_train_version"] == __version__
    assert metadata["input"] == "RGB, float32 from 0 to 1, NCHW"
    counts = count_coreml(path)
    plain = {"conv", "add", "mul", "silu", "sigmoid_hard", "thresholded_relu", "concat"}
    assert counts.keys() <= plain | {"reduce_mean", "linear"}
    assert next(iter(counts)) == "conv"


def test_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "coremltools", None)
    network = Exportable(lively("parcnet_xs"), SIZE)
    with pytest.raises(ConfigError, match=r"coremltools is not installed.*pip install 'parcnet"):
        write_coreml(network, tmp_path / "none.mlpackage", {})

"""ncnn files: outputs, layers and metadata."""

import json

import numpy as np
import pytest
import torch

from exporting import NAMES, images_of, outputs_of, written
from lively import lively
from parcnet_train.deploy.exportable import Exportable, FileOptions
from parcnet_train.deploy.formats.ncnn import count_ncnn, write_ncnn
from parcnet_train.errors import TrainingError

SIZE = (64, 96)


def path_in(folder):
    return folder / "network.ncnn.param"


@pytest.mark.parametrize(
    ("backbone", "task"),
    [
        ("parcnet_xs", "detection"),
        pytest.param("mobilevit_xxs", "segmentation", marks=pytest.mark.slow),
        pytest.param("parc_convnext_xt", "classification", marks=pytest.mark.slow),
    ],
)
def test_outputs_match_pytorch(backbone, task, tmp_path):
    model, image = lively(backbone, task), images_of(SIZE, 1)
    file = written("ncnn", model, SIZE, path_in(tmp_path))
    found = file.run(image.numpy())
    for name, expected in zip(file.names, outputs_of(model, image), strict=True):
        spread = float(expected.std())
        assert found[name].shape == expected.shape
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-4 * spread)


def test_metadata_and_layers(tmp_path):
    file = written("ncnn", lively("parcnet_xs"), SIZE, path_in(tmp_path))
    assert file.names == ["logits"]
    assert json.loads(file.metadata["class_names"]) == NAMES
    counts = count_ncnn(path_in(tmp_path))
    assert next(iter(counts)) == "Convolution"
    assert counts["ConvolutionDepthWise"] > 10
    assert "#parcnet_train" not in counts
    text = path_in(tmp_path).read_text().splitlines()
    assert text[2].split() == ["Input", "images", "0", "1", "images"]


@pytest.mark.slow
def test_weights_are_stored_as_float16(tmp_path):
    model = lively("parcnet_xs")
    sizes = []
    for half in (False, True):
        written("ncnn", model, SIZE, path_in(tmp_path), FileOptions(half=half))
        sizes.append((tmp_path / "network.ncnn.bin").stat().st_size)
    assert sizes[1] < 0.55 * sizes[0]


class Unknown(Exportable):
    """A network with an operator that ncnn lacks."""

    def forward(self, images):
        return (torch.linalg.det(super().forward(images)[0][:, :9].reshape(-1, 3, 3)),)


def test_a_network_that_ncnn_cannot_run_is_not_written(tmp_path):
    network = Unknown(lively("parcnet_xs"), SIZE)
    with pytest.raises(TrainingError, match=r"network\.ncnn\.param: ncnn cannot run the converted"):
        write_ncnn(network, path_in(tmp_path), {})
    assert not list(tmp_path.iterdir())

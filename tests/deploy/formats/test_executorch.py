"""ExecuTorch files: outputs, operators and metadata."""

import json

import numpy as np
import pytest
import torch

from exporting import NAMES, images_of, outputs_of, written
from lively import lively, used_to_images
from parcnet_train.deploy.exportable import Exportable, as_input
from parcnet_train.deploy.formats.executorch import count_executorch, reported, write_executorch
from parcnet_train.errors import TrainingError, UnwritableError

pytestmark = pytest.mark.runtimes

SIZE = (64, 96)
SHORT = "backbone.depths=[1,1,1]"


def test_a_full_disk_is_no_fault_of_the_network(tmp_path):
    with pytest.raises(UnwritableError, match="No space left"), reported(tmp_path / "a.pte"):
        raise UnwritableError("a.pte cannot be written: No space left on device")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A network, its opened file, and the path of the file."""
    path = tmp_path_factory.mktemp("executorch") / "network.pte"
    model = lively("parcnet_xs", "classification", SHORT)
    return model, written("executorch", model, SIZE, path), path


def assert_equal(found, expected):
    spread = float(expected.std())
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * spread)


def test_outputs_match_pytorch_again_and_again(classifier):
    model, file, _ = classifier
    images = images_of(SIZE, 2)
    found = [file.run(each[None].numpy())["logits"] for each in images]
    assert_equal(np.concatenate(found), outputs_of(model, images)[0])


def test_every_output_has_its_name(tmp_path):
    model, image = lively("mobilevit_xxs", "detection"), images_of(SIZE, 1)
    file = written("executorch", model, SIZE, tmp_path / "network.pte")
    found = file.run(image.numpy())
    assert list(found) == file.names == ["class_logits", "box_offsets"]
    for ours, expected in zip(found.values(), outputs_of(model, image), strict=True):
        assert_equal(ours, expected)
    counts = count_executorch(tmp_path / "network.pte")
    assert counts["XNNBatchMatrixMultiply"] == 18
    assert counts["aten::native_layer_norm"] == 21
    assert "aten::expand_copy" not in counts


def test_metadata_is_read_by_the_runtime_alone(classifier):
    from executorch.runtime import Runtime

    _, file, path = classifier
    assert json.loads(file.metadata["class_names"]) == NAMES
    program = Runtime.get().load_program(path)
    assert program.method_names == {"forward", *file.metadata}
    assert program.load_method("task").execute(()) == ["classification"]


def test_convolutions_run_in_xnnpack(classifier):
    _, _, path = classifier
    counts = count_executorch(path)
    assert counts["XNNConv2d"] + counts["XNNDepthwiseConv2d"] > 40
    assert counts["XNNFullyConnected"] == 1
    own = {name for name in counts if not name.startswith("XNN")}
    assert own == {"aten::mean", "dim_order_ops::_to_dim_order_copy"}


def test_a_file_takes_pixels(tmp_path):
    model = used_to_images(lively("parcnet_xs", "classification", SHORT), SIZE)
    images = (255 * images_of(SIZE, 1)).round() / 255
    file = written("executorch", model, SIZE, tmp_path / "network.pte", preprocess=True)
    found = file.run(as_input(images.numpy(), file.metadata))
    assert_equal(found["logits"], outputs_of(model, images)[0])
    assert "aten::as_strided_copy" not in count_executorch(tmp_path / "network.pte")


def test_a_file_returns_classes_of_pixels(tmp_path):
    model, image = lively("parcnet_xs", "segmentation", SHORT), images_of(SIZE, 1)
    file = written("executorch", model, SIZE, tmp_path / "network.pte", argmax=True)
    classes = file.run(image.numpy())["classes"]
    assert (classes == outputs_of(model, image)[0].argmax(dim=1).numpy()).mean() > 0.999


class Unknown(Exportable):
    """A network with an operator that ExecuTorch lacks."""

    def forward(self, images):
        return (torch.linalg.det(images[0].reshape(-1, 3, 3)),)


def test_a_network_that_cannot_be_converted_is_not_written(tmp_path):
    network = Unknown(lively("parcnet_xs", "classification", SHORT), (96, 96))
    with pytest.raises(TrainingError, match=r"network\.pte: ExecuTorch cannot convert .* Fix: use"):
        write_executorch(network, tmp_path / "network.pte", {})
    assert not list(tmp_path.iterdir())

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

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
from parcnet_train.deploy.exportable import OPSET, Decoding, Exportable, FileOptions
from parcnet_train.deploy.formats.formats import FORMATS
from parcnet_train.deploy.formats.onnx import OnnxFile, write_onnx
from parcnet_train.deploy.formats.operator_counts import count_onnx
from parcnet_train.deploy.formats.verify import missing
from parcnet_train.deploy.standalone.detection import anchors_of
from parcnet_train.detection.postprocess import detect
from parcnet_train.errors import ConfigError
from running import BACKBONES, is_dense

SIZES = ((64, 96), (128, 64))
TASKS = ("classification", "detection", "segmentation")

# Convolutions, the operators between them, and the classifier's last layers.
PLAIN = {"Conv", "Add", "Mul", "Sigmoid", "HardSigmoid", "HardSwish", "Concat"}
PLAIN |= {"GlobalAveragePool", "ReduceMean", "Gemm"}


def inputs(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [(each.name, each.type, each.shape) for each in session.get_inputs()]


SAMPLE = [
    ("parcnet_xs", "detection", SIZES[0]),
    ("mobilevit_xxs", "segmentation", SIZES[1]),
    ("parc_resnet50", "classification", SIZES[0]),
    ("parc_convnext_xt", "classification", SIZES[1]),
]


@pytest.mark.parametrize(("backbone", "task", "size"), SAMPLE)
def test_outputs_match_pytorch_for_a_sample_of_networks(backbone, task, size, tmp_path):
    assert_equal_to_torch("onnx", backbone, task, size, tmp_path / "network.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_outputs_match_pytorch_for_every_backbone_and_task(backbone, task, size, tmp_path):
    if task != "classification" and not is_dense(backbone):
        return
    assert_equal_to_torch("onnx", backbone, task, size, tmp_path / "network.onnx")


OLD = FileOptions(opset=13)  # what RKNN and older versions of TensorRT read
OLD_SAMPLE = [("parcnet_s", "detection"), ("mobilevit_xxs", "classification")]


def assert_is_of_opset_13(backbone, task, path):
    assert_equal_to_torch("onnx", backbone, task, SIZES[0], path, OLD)
    model = onnx.load(path)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 13)]
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize(("backbone", "task"), OLD_SAMPLE)
def test_opset_13(backbone, task, tmp_path):
    assert_is_of_opset_13(backbone, task, tmp_path / "old.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_opset_13_of_every_backbone_and_task(backbone, task, tmp_path):
    if task != "classification" and not is_dense(backbone):
        return
    if backbone.startswith(("mobile_former", "pvt", "t2t_vit")):  # which attend by torch's function
        with pytest.raises(ConfigError, match=r"^export\.opset=13: .*scaled_dot_product_attention"):
            assert_is_of_opset_13(backbone, task, tmp_path / "old.onnx")
        return
    assert_is_of_opset_13(backbone, task, tmp_path / "old.onnx")


@pytest.mark.parametrize(
    "form", ["onnx", "openvino", "mnn", pytest.param("torch_export", marks=pytest.mark.slow)]
)
def test_files_take_pixels(form, tmp_path):
    path = tmp_path / f"network{FORMATS[form].suffixes[0]}"
    assert_equal_to_torch(form, "parcnet_xs", "classification", SIZES[0], path, preprocess=True)


def test_float16_has_half_the_size_and_nearly_the_same_outputs(classifier, tmp_path):
    model, path, file = classifier
    half = tmp_path / "half.onnx"
    found = written("onnx", model, SIZES[0], half, FileOptions(half=True))
    assert half.stat().st_size < 0.55 * path.stat().st_size
    assert inputs(half) == inputs(path)
    images = images_of(SIZES[0]).numpy()
    expected, logits = (each.run(images)["logits"] for each in (file, found))
    assert logits.dtype == np.float32
    difference = np.abs(logits - expected).max() / expected.std()
    assert 1e-6 < difference < 1e-2  # float16 has 11 binary digits


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier and its file."""
    path = tmp_path_factory.mktemp("onnx") / "network.onnx"
    model = lively("parcnet_xs")
    return model, path, written("onnx", model, SIZES[0], path)


def test_parcnet_is_exported_as_plain_convolutions(classifier):
    counts = count_onnx(classifier[1])
    assert counts.keys() <= PLAIN
    assert next(iter(counts)) == "Conv"
    graph = onnx.load(classifier[1]).graph
    assert counts["Conv"] == sum(node.op_type == "Conv" for node in graph.node)


def test_batch_size_is_free(classifier):
    model, _, file = classifier
    images = images_of(SIZES[0], 3)
    expected = outputs_of(model, images)[0].numpy()
    for first in range(3):
        logits = file.run(images[first:].numpy())["logits"]
        np.testing.assert_allclose(logits, expected[first:], atol=1e-4 * expected.std())


def test_batch_size_can_be_fixed_to_one(classifier, tmp_path):
    path = tmp_path / "one.onnx"
    written("onnx", classifier[0], SIZES[0], path, FileOptions(dynamic_batch=False))
    assert inputs(path) == [("images", "tensor(float)", [1, 3, *SIZES[0]])]


def test_metadata_describes_the_network(classifier):
    _, path, file = classifier
    assert inputs(path) == [("images", "tensor(float)", ["batch", 3, *SIZES[0]])]
    assert json.loads(file.metadata["class_names"]) == NAMES
    assert json.loads(file.metadata["image_size"]) == list(SIZES[0])
    assert file.metadata["parcnet_train_version"] == __version__
    assert file.metadata["input"] == "RGB, float32 from 0 to 1, NCHW"
    (opset,) = onnx.load(path).opset_import
    assert opset.version == OPSET


@pytest.fixture(scope="module")
def detector():
    return detector_of_all_scores()


def test_objects_match_pytorch(detector, tmp_path):
    size, decoding = (128, 192), Decoding(0.05, 0.45, 50, 40)
    file = written("onnx", detector, size, tmp_path / "objects.onnx", decoding=decoding)
    assert file.names == ["boxes", "scores", "labels"]
    for image in images_of(size):
        found = file.run(image[None].numpy())
        with torch.no_grad():
            (expected,) = detect(detector(image[None]), 0.05, 0.45, 50, 40)
        assert len(found["scores"]) == len(expected.scores) == 40
        assert set(found["labels"]) <= set(range(1, 10))
        assert np.all(np.diff(found["scores"]) <= 0)
        np.testing.assert_allclose(found["scores"], expected.scores, atol=1e-5)
        assert missing(expected, found) == 0


def test_image_without_objects_gives_empty_outputs(detector, tmp_path):
    file = written("onnx", detector, SIZES[0], tmp_path / "none.onnx", decoding=Decoding(0.9999))
    found = file.run(images_of(SIZES[0], 1).numpy())
    assert {name: each.shape for name, each in found.items()} == {
        "boxes": (0, 4),
        "scores": (0,),
        "labels": (0,),
    }


def test_metadata_of_a_detector_describes_its_anchors(detector, tmp_path):
    file = written("onnx", detector, SIZES[0], tmp_path / "offsets.onnx")
    found = anchors_of({"anchors": json.loads(file.metadata["anchors"])})
    with torch.no_grad():
        expected = detector(images_of(SIZES[0])).anchors
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_argmax_outputs_match_pytorch(tmp_path):
    model, images = lively("mobilevit_xxs", "segmentation"), images_of(SIZES[0])
    file = written("onnx", model, SIZES[0], tmp_path / "classes.onnx", argmax=True)
    classes = file.run(images.numpy())["classes"]
    expected = outputs_of(model, images)[0].argmax(dim=1).numpy()
    assert classes.shape == expected.shape
    assert (classes != expected).mean() < 1e-3


def test_missing_package_is_named(classifier, monkeypatch, tmp_path):
    network = Exportable(classifier[0], SIZES[0])
    for package in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    message = r"{} is not installed.*pip install 'parcnet-train\[onnx\]'"
    with pytest.raises(ConfigError, match=message.format("onnx")):
        write_onnx(network, tmp_path / "none.onnx", {})
    with pytest.raises(ConfigError, match=message.format("onnxruntime")):
        OnnxFile(classifier[1])

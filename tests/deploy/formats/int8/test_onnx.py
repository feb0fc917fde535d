import json
import logging
import math
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from exporting import NAMES, detector_of_all_scores
from lively import lively
from parcnet_train.deploy.exportable import Decoding, Exportable, FileOptions, Scheme
from parcnet_train.deploy.formats.int8.onnx import (
    SILENCE,
    QuantizableOnnx,
    layers_and_inputs,
    quietly,
    signal_to_noise,
)
from parcnet_train.deploy.formats.onnx import OnnxFile, record, write_onnx
from parcnet_train.errors import ConfigError

SIZE = (32, 64)


def images(number, size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.random((1, 3, *size), dtype=np.float32) for _ in range(number)]


def chain():
    """Three convolutions, of which the second one has one weight much larger than the others."""
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Conv2d(n, 4, 3) for n in (3, 4, 4)))
    with torch.no_grad():
        network[1].weight[:, 0, 0, 0] *= 300
    return network


@pytest.fixture(scope="module")
def quantizable(tmp_path_factory):
    """The chain as a float32 file, and a folder."""
    folder = tmp_path_factory.mktemp("chain")
    model = record(chain(), torch.zeros(1, 3, *SIZE), ["logits"])
    onnx.helper.set_model_props(model, {"task": "none"})
    onnx.save(model, folder / "float.onnx")
    return QuantizableOnnx(folder / "float.onnx", images(4), folder), folder


def initializers(path):
    return {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}


def nodes_of(path):
    return onnx.load(path).graph.node


def test_weights_are_int8_with_one_scale_per_output_channel(quantizable):
    file, folder = quantizable
    file.write(folder / "int8.onnx")
    weights = chain()[0].weight.detach().numpy()
    found = initializers(folder / "int8.onnx")
    scales = np.abs(weights).reshape(4, -1).max(axis=1) / 127
    np.testing.assert_allclose(found["0.weight_scale"], scales, rtol=1e-6)
    np.testing.assert_array_equal(
        found["0.weight_quantized"], np.round(weights / scales[:, None, None, None]).astype(np.int8)
    )


def test_activations_are_uint8_over_the_range_of_the_images(quantizable):
    file, folder = quantizable
    file.write(folder / "int8.onnx")
    found = initializers(folder / "int8.onnx")
    values = values_between(file)
    (between,) = (node.output[0] for node in nodes_of(folder / "float.onnx")[:1])
    assert found[f"{between}_zero_point"].dtype == np.uint8
    expected = (max(values.max(), 0) - min(values.min(), 0)) / 255
    np.testing.assert_allclose(found[f"{between}_scale"], expected, rtol=1e-3)


def values_between(file):
    """Outputs of the first layer for the calibration images."""
    with torch.no_grad():
        return chain()[0](torch.from_numpy(np.concatenate(file.images))).numpy()


def test_symmetric_ranges_have_zero_points_of_0(quantizable, tmp_path):
    file, folder = quantizable
    symmetric = QuantizableOnnx(
        folder / "float.onnx", file.images, tmp_path, Scheme(symmetric=True)
    )
    symmetric.write(tmp_path / "int8.onnx")
    found = initializers(tmp_path / "int8.onnx")
    points = {name: each for name, each in found.items() if name.endswith("_zero_point")}
    assert len(points) > 4
    assert {each.dtype.name for each in points.values()} == {"int8", "int32"}  # int32: biases
    assert not any(each.any() for each in points.values())
    (between,) = (node.output[0] for node in nodes_of(folder / "float.onnx")[:1])
    expected = 2 * np.abs(values_between(file)).max() / 254
    np.testing.assert_allclose(found[f"{between}_scale"], expected, rtol=1e-2)


def test_percentile_leaves_the_largest_values_out(quantizable, tmp_path):
    file, folder = quantizable
    ranges = Scheme(percentile=90.0)
    QuantizableOnnx(folder / "float.onnx", file.images, tmp_path, ranges).write(
        tmp_path / "int8.onnx"
    )
    found = initializers(tmp_path / "int8.onnx")
    (between,) = (node.output[0] for node in nodes_of(folder / "float.onnx")[:1])
    values = values_between(file)
    low, high = np.percentile(values, (5, 95))  # 90 % lie in between
    # ONNX Runtime counts values in 2,048 bins.
    tolerance = np.ptp(values) / 255 / 50
    expected = (max(high, 0) - min(low, 0)) / 255
    np.testing.assert_allclose(found[f"{between}_scale"], expected, rtol=0, atol=tolerance)


def test_metadata_is_kept_and_says_int8(quantizable):
    file, folder = quantizable
    file.write(folder / "int8.onnx")
    assert OnnxFile(folder / "int8.onnx").metadata == {"task": "none", "precision": "int8"}


def test_named_layers_stay_in_float32(quantizable):
    file, folder = quantizable
    file.write(folder / "part.onnx", ["/1/*", file.layers[2]])
    found = initializers(folder / "part.onnx")
    assert {name for name in found if name.endswith("weight_quantized")} == {"0.weight_quantized"}
    np.testing.assert_array_equal(found["1.weight"], chain()[1].weight.detach().numpy())


def test_unknown_layer_name_is_an_error(quantizable):
    file, folder = quantizable
    match = r"^export\.float_layers=backbone: .*expected .*/0/Conv.*export\.sensitivity=true"
    with pytest.raises(ConfigError, match=match):
        file.write(folder / "none.onnx", ["/1/*", "backbone"])
    assert not (folder / "none.onnx").exists()


def test_sensitivity_is_the_noise_of_a_single_layer(quantizable):
    """It equals that of a file in which all other layers stay in float32."""
    file, folder = quantizable
    heard = images(2, seed=1)
    found = dict(file.sensitivities(heard))
    assert list(found) == file.layers == ["/0/Conv", "/1/Conv", "/2/Conv"]
    with torch.no_grad():
        expected = chain().double()(torch.from_numpy(np.concatenate(heard)).double()).numpy()
    for layer, decibels in found.items():
        file.write(folder / "one.onnx", [each for each in file.layers if each != layer])
        one = OnnxFile(folder / "one.onnx")
        outputs = np.concatenate([one.run(each)["logits"] for each in heard])
        noise = ((outputs - expected) ** 2).mean()
        assert decibels == pytest.approx(10 * math.log10(expected.var() / noise), abs=0.05)
    assert min(found, key=found.get) == "/1/Conv"


@pytest.mark.parametrize(
    ("expected", "found", "decibels"),
    [
        ([1, -1], [1.1, -0.9], 20),
        ([2, -2], [2.2, -1.8], 20),
        ([1, -1], [1, -1], SILENCE),
        ([1, 1], [1, 1], SILENCE),
        ([1, 1], [1, 2], -SILENCE),
    ],
)
def test_signal_to_noise_matches_its_definition(expected, found, decibels):
    assert signal_to_noise(np.array(expected), np.array(found)) == pytest.approx(decibels)


def test_operators_before_layers_are_found():
    def node(name, inputs, output):
        return SimpleNamespace(name=name, input=inputs, output=[output])

    graph = [
        node("normalise", ["images"], "a"),
        node("conv", ["a"], "b"),
        node("gate", ["b"], "c"),
        node("aside", ["b"], "d"),
        node("gemm", ["c"], "e"),
        node("softmax", ["e"], "f"),
    ]
    assert layers_and_inputs(graph, ["conv", "gemm"]) == {"normalise", "conv", "gate", "gemm"}
    assert layers_and_inputs(graph, []) == set()


@pytest.mark.parametrize(
    ("backbone", "task", "floor"),
    [
        ("parcnet_xs", "classification", 15),
        pytest.param("mobilevit_xxs", "segmentation", 15, marks=pytest.mark.slow),
    ],
)
def test_int8_outputs_are_close_to_float32(backbone, task, floor, tmp_path):
    network = Exportable(lively(backbone, task), (64, 64))
    write_onnx(network, tmp_path / "float.onnx", network.description(NAMES))
    (tmp_path / "scratch").mkdir()
    file = QuantizableOnnx(tmp_path / "float.onnx", images(8, (64, 64)), tmp_path / "scratch")
    file.write(tmp_path / "int8.onnx")
    small, whole = OnnxFile(tmp_path / "int8.onnx"), OnnxFile(tmp_path / "float.onnx")
    batch = np.concatenate(images(3, (64, 64), seed=1))
    expected, found = (each.run(batch)["logits"].astype(np.float64) for each in (whole, small))
    assert signal_to_noise(expected, found) > floor
    assert json.loads(small.metadata["class_names"]) == NAMES
    alone = [small.run(batch[index : index + 1])["logits"] for index in range(3)]
    np.testing.assert_allclose(np.concatenate(alone), found, atol=1e-5 * found.std())
    sizes = [path.stat().st_size for path in (tmp_path / "int8.onnx", tmp_path / "float.onnx")]
    assert sizes[0] < 0.45 * sizes[1]


def test_convolutions_are_computed_in_int8(tmp_path):
    """ONNX Runtime fuses each convolution with the quantization around it."""
    network = Exportable(lively("parcnet_xs"), (64, 64))
    write_onnx(network, tmp_path / "float.onnx", {}, FileOptions(dynamic_batch=False))
    QuantizableOnnx(tmp_path / "float.onnx", images(2, (64, 64)), tmp_path).write(
        tmp_path / "int8.onnx"
    )
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(
        str(tmp_path / "int8.onnx"), options, providers=["CPUExecutionProvider"]
    )
    operators = [node.op_type for node in nodes_of(tmp_path / "optimised.onnx")]
    assert operators.count("QLinearConv") == len(
        [node for node in nodes_of(tmp_path / "float.onnx") if node.op_type == "Conv"]
    )
    assert "Conv" not in operators
    assert "QGemm" in operators


def test_boxes_and_scores_are_computed_in_float32(tmp_path):
    network = Exportable(detector_of_all_scores(), (64, 64), decoding=Decoding())
    write_onnx(network, tmp_path / "float.onnx", network.description(NAMES))
    file = QuantizableOnnx(tmp_path / "float.onnx", images(4, (64, 64)), tmp_path)
    file.write(tmp_path / "int8.onnx")
    makers = {name: node for node in nodes_of(tmp_path / "int8.onnx") for name in node.output}
    (softmax,) = (each for each in makers.values() if each.op_type == "Softmax")
    behind = {"Softmax", "TopK", "NonMaxSuppression", "Exp"}
    quantized = {
        makers[name].op_type
        for node in makers.values()
        if node.op_type == "QuantizeLinear"
        for name in node.input
        if name in makers
    }
    assert "Conv" in quantized
    assert not quantized & behind
    assert makers[softmax.input[0]].op_type != "DequantizeLinear"
    found = OnnxFile(tmp_path / "int8.onnx").run(images(1, (64, 64))[0])
    assert found["boxes"].shape[1] == 4
    assert len(found["scores"]) > 0


def test_layer_norms_stay_in_float32(tmp_path):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.LayerNorm(SIZE[1] - 2), nn.Linear(SIZE[1] - 2, 5)
    )
    onnx.save(record(network, torch.zeros(1, 3, *SIZE), ["logits"]), tmp_path / "float.onnx")
    file = QuantizableOnnx(tmp_path / "float.onnx", images(2), tmp_path)
    file.write(tmp_path / "int8.onnx")
    found = initializers(tmp_path / "int8.onnx")
    norms = [n for n in nodes_of(tmp_path / "int8.onnx") if n.op_type == "LayerNormalization"]
    assert norms
    assert all(found[norm.input[1]].dtype == np.float32 for norm in norms)


def test_quantizer_messages_are_silenced(caplog):
    with caplog.at_level("INFO"):
        with quietly():
            logging.getLogger().warning("a constant was copied")
        logging.getLogger().warning("a warning of ours")
    assert caplog.messages == ["a warning of ours"]

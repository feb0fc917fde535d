"""Exported files in their runtimes."""

import numpy as np
import pytest
import torch
from torch import nn

from exporting import write_network
from parcnet_train.deploy.formats.mnn import write_mnn
from parcnet_train.deploy.formats.openvino import read_description, write_openvino
from parcnet_train.deploy.runtimes import open_model

SIZE = (12, 20)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2),
        nn.SiLU(),
        nn.Conv2d(16, 8, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    stem = folder / f"small-{SIZE[0]}x{SIZE[1]}"
    write_network(network, SIZE, stem.with_suffix(".onnx"))
    write_mnn(stem.with_suffix(".onnx"), stem.with_suffix(".mnn"), {})
    return {"onnxruntime": stem.with_suffix(".onnx"), "mnn": stem.with_suffix(".mnn")}


def assert_same(network, run):
    for seed in (0, 1):
        images = np.random.default_rng(seed).random((1, 3, *SIZE), dtype=np.float32)
        expected = network(torch.from_numpy(images)).detach().numpy()
        found = run(images)
        assert list(found) == ["logits"]
        np.testing.assert_allclose(found["logits"], expected, atol=1e-5 * expected.std())


@pytest.mark.parametrize("runtime", ["onnxruntime", "mnn"])
def test_outputs_match_pytorch(runtime, network, files):
    assert_same(network, open_model(runtime, files[runtime]))


def test_openvino_matches_pytorch_in_float32(network, files, tmp_path):
    path = tmp_path / "small.xml"
    write_openvino(files["onnxruntime"], path, {"task": "classification", "names": "[é, b]"})
    assert sorted(each.name for each in tmp_path.iterdir()) == ["small.bin", "small.xml"]
    assert read_description(path) == {"task": "classification", "names": "[é, b]"}
    assert_same(network, open_model("openvino", path))


def test_outputs_stay_valid_after_the_next_inference(files):
    run = open_model("mnn", files["mnn"])
    generator = np.random.default_rng(0)
    first, second = (generator.random((1, 3, *SIZE), dtype=np.float32) for _ in range(2))
    kept = run(first)["logits"]
    copied = kept.copy()
    assert not np.array_equal(run(second)["logits"], copied)
    assert np.array_equal(kept, copied)


def test_onnx_runtime_gets_the_given_settings(files, monkeypatch):
    import onnxruntime

    seen = []
    make = onnxruntime.InferenceSession

    def record(path, options, providers):
        seen.append((options, providers))
        return make(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    open_model("onnxruntime", files["onnxruntime"], threads=2)
    ((options, providers),) = seen
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert providers == ["CPUExecutionProvider"]

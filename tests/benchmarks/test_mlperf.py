"""MLPerf Mobile's protocol: images, accuracy, and the fastest file that is accurate enough."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bundles import make_bundle
from documentation import RESULTS
from parcnet_train.benchmarks import mlperf
from parcnet_train.benchmarks.exported import Candidate, Footprint
from parcnet_train.benchmarks.mlperf import SHARES, Accuracy, Keeping, Streams, time_files
from parcnet_train.detection.types import DetectionOutputs

ONNX, MNN = (Candidate("xs", "baked", runtime) for runtime in ("onnxruntime", "mnn"))


def test_rules_are_those_of_mlperf_mobile():
    assert (mlperf.LEAST_IMAGES, mlperf.LEAST_SECONDS, mlperf.PERCENTILE) == (1024, 60, 90)
    assert SHARES == {"classification": 0.98, "detection": 0.95, "segmentation": 0.96}


@pytest.mark.parametrize("is_float", [False, True])
def test_first_images_are_kept_as_bytes(is_float):
    batch = torch.arange(8, dtype=torch.uint8).reshape(4, 1, 1, 2) * 36
    keeping = Keeping(nn.Identity(), 6)
    for _ in range(3):
        given = batch.float() / 255 if is_float else batch
        assert torch.equal(keeping(given), given)
    expected = np.concatenate([batch.numpy(), batch.numpy()[:2]])
    np.testing.assert_array_equal(keeping.kept(), expected)
    assert keeping.kept().dtype == np.uint8
    assert keeping.anchors is None


def test_anchors_are_those_of_the_network():
    anchors = torch.rand(5, 4)
    network = nn.Module()
    network.forward = lambda images: DetectionOutputs(images, images, anchors)
    keeping = Keeping(network, 1)
    keeping(torch.zeros(1, 3, 2, 2))
    assert keeping.anchors is anchors


@pytest.mark.parametrize(
    ("value", "expected", "passes"),
    [(0.49, 0.5, True), (0.489, 0.5, False), (0.6, 0.5, True), (0, 0, False), (math.nan, 1, False)],
)
def test_accuracy_passes_from_the_least_share_on(value, expected, passes):
    assert Accuracy(value, expected, 0.98).passed is passes


@pytest.fixture
def streams():
    times = {ONNX: [2.0] * 20, MNN: [1.0] * 20}
    accuracy = {ONNX: Accuracy(0.5, 0.5, 0.98), MNN: Accuracy(0.4, 0.5, 0.98)}
    return Streams(times, accuracy, dict.fromkeys(times, Footprint(10, 1.0, 5)), 7, [1])


def test_the_fastest_file_is_accurate_enough(streams):
    assert streams.fastest() == {("xs", "float32"): ONNX}


def test_results_are_documented(streams):
    results = dict(streams.results())
    assert results["latency/xs/baked/mnn/accuracy_share"] == pytest.approx(0.8)
    assert results["latency/xs/baked/mnn/accuracy_passed"] is False
    assert results["latency/xs/baked/mnn/inferences"] == 20
    assert results["latency/xs/baked/mnn/seconds"] == pytest.approx(0.02)
    assert results["best/xs/float32"] == "baked/onnxruntime"
    names = {key.rsplit("/", 1)[1] for key in results if key.startswith("latency/")}
    documented = "`latency/<backbone>/<form>/<runtime>/{}`"
    assert [name for name in names if documented.format(name) not in RESULTS] == []


@pytest.mark.slow
def test_files_that_can_be_run_are_streamed(tmp_path, monkeypatch):
    monkeypatch.setattr(mlperf, "LEAST_IMAGES", 100)
    monkeypatch.setattr(mlperf, "LEAST_SECONDS", 0.005)
    _, paths = make_bundle(tmp_path, first="", second="", broken="broken")
    files = {Candidate(name, "baked", "onnxruntime"): path for name, path in paths.items()}
    accuracy = dict.fromkeys(files, Accuracy(1, 1, 0.98))
    images = np.zeros((5, 3, 8, 16), np.uint8)
    found = time_files(files, images, tmp_path, 1, accuracy)
    for times in found.milliseconds.values():
        assert len(times) >= 128  # blocks of 64
        assert sum(times) >= 5
        assert len(times) == 128 or sum(times[:-64]) < 5
    assert found.images == 5
    assert found.footprints.keys() == found.milliseconds.keys() < files.keys()

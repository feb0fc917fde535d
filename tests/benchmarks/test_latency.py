"""Latencies: what is timed, and how far outputs are apart."""

import numpy as np
import pytest

from bundles import make_bundle
from faults import is_like
from lively import lively
from parcnet_train.benchmarks import latency
from parcnet_train.benchmarks.exported import Candidate, Footprint
from parcnet_train.benchmarks.latency import (
    Latencies,
    difference,
    fastest,
    product_rate,
    time_networks,
)
from parcnet_train.errors import TrainingError

FOOTPRINT = Footprint(1000, 2.5, None)


@pytest.fixture
def of_bundle(tmp_path, monkeypatch):
    """Time files of a made-up runtime, by the words in them."""

    def measure(**files):
        _, paths = make_bundle(tmp_path, **files)
        candidates = {Candidate(name, "baked", "onnxruntime"): paths[name] for name in files}
        monkeypatch.setattr(latency, "write_files", lambda *_: candidates)
        network = lively("parcnet_xs", "classification", "backbone.depths=[1,1,1]", classes=3)
        networks = dict.fromkeys(files, network)
        return time_networks(networks, (32, 32), list(candidates), tmp_path, 1, 3, 1)

    return measure


def test_every_candidate_is_timed_as_often_as_asked(of_bundle):
    found = of_bundle(first="", second="")
    assert [len(times) for times in found.milliseconds.values()] == [3, 3]
    assert found.differences.keys() == found.footprints.keys() == found.milliseconds.keys()
    assert found.footprints[Candidate("first", "baked", "onnxruntime")].bytes == 0


@pytest.mark.slow
def test_files_that_cannot_be_run_are_left_out(of_bundle, caplog):
    found = of_bundle(good="", broken="broken", dying="dies")
    good = Candidate("good", "baked", "onnxruntime")
    assert list(found.milliseconds) == list(found.footprints) == list(found.differences) == [good]
    first, second = (each.getMessage() for each in caplog.records)
    assert is_like(first, "broken/baked/onnxruntime is left out: …no such operator")
    assert is_like(second, "dying/baked/onnxruntime is left out: …signal 9…")


def test_without_a_file_that_runs_there_is_an_error_of_one_line(of_bundle):
    with pytest.raises(TrainingError, match=r"^no file is left that can be run\. Fix: "):
        of_bundle(dying="dies")


def test_a_process_that_ends_while_it_is_timed_is_left_out(of_bundle, caplog):
    """It survives its footprint, and `outputs`: the third inference of a process ends it."""
    with pytest.raises(TrainingError, match="no file is left"):
        of_bundle(tired="tires")
    assert is_like(caplog.messages[0], "tired/baked/onnxruntime is left out: …signal 9…")


def test_results_have_a_key_for_each_candidate_and_value():
    candidate = Candidate("parcnet_s", "baked", "mnn")
    found = Latencies(
        (8, 8),
        {candidate: [1.0, 3.0, 2.0]},
        {candidate: 1e-6},
        {candidate: FOOTPRINT},
        {"parcnet_s": 7},
        1e9,
        None,
    )
    results = dict(found.results())
    key = "latency/parcnet_s/baked/mnn"
    assert results[f"{key}/milliseconds"] == 2
    assert results[f"{key}/difference"] == 1e-6
    assert results[f"{key}/bytes"] == 1000
    assert results[f"{key}/load_milliseconds"] == 2.5
    assert results[f"{key}/peak_memory_bytes"] is None
    assert results["best/parcnet_s/float32"] == "baked/mnn"
    assert results["multiply_adds/parcnet_s"] == 7
    assert results["hardware/multiply_adds_per_second"] == 1e9


def test_rate_is_that_of_the_fastest_product(monkeypatch):
    clock = iter([0, 9, 10, 12, 20, 29])
    monkeypatch.setattr(latency, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(latency, "MATRIX", 10)
    monkeypatch.setattr(latency, "PRODUCTS", 3)
    assert product_rate(1) == 10**3 / 2


def test_fastest_runtime_of_each_precision():
    times = {
        ("a", "baked", "mnn"): [1.0, 1.0, 9.0],
        ("a", "plain", "ncnn"): [2.0, 2.0, 2.0],
        ("a", "int8", "mnn"): [5.0],
        ("b", "baked", "mnn"): [7.0],
    }
    given = {Candidate(*each): value for each, value in times.items()}
    by_median = {key: each.runtime for key, each in fastest(given).items()}
    assert by_median == {("a", "float32"): "mnn", ("a", "int8"): "mnn", ("b", "float32"): "mnn"}
    assert fastest(given, 90)["a", "float32"].runtime == "ncnn"


def test_differences_are_in_units_of_the_standard_deviation():
    expected = np.array([[1.0, 3.0]])  # whose standard deviation is 1
    found = np.array([[1.0, 3.25]])
    assert difference(found, expected) == pytest.approx(0.25)

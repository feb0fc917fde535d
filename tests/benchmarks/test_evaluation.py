"""`benchmark.target=evaluation`: made-up detections, agreement, and the results."""

import json
import re
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

from documentation import RESULTS
from parcnet_train.benchmarks import evaluation
from parcnet_train.benchmarks.evaluation import CLASSES, compare, make_detections
from parcnet_train.deploy.standalone.memory import CLEAR
from parcnet_train.detection.evaluation import coco_metrics
from parcnet_train.detection.evaluators import installed
from parcnet_train.errors import TrainingError
from running import run

OVERRIDES = ("action=benchmark", "benchmark.target=evaluation", "benchmark.repeats=2")
NAMES = ("version", "milliseconds", "milliseconds_min", "milliseconds_max", "ratio", "difference")


@pytest.mark.slow
def test_results_contain_every_installed_evaluator(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    results = run([*OVERRIDES, "benchmark.images=6", "benchmark.detections=9"], tmp_path)
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert (results["images"], results["detections"], results["classes"]) == (6, 9, CLASSES)
    assert (results["hardware/device"], results["evaluation/threads"]) == ("cpu", 1)
    out = capsys.readouterr().out
    assert "6 x 9 detections, 80 classes, threads of hotcoco: 1" in out
    for evaluator in installed():
        assert evaluator in out
        entries = {name: results[f"evaluation/{evaluator}/{name}"] for name in NAMES}
        assert entries["milliseconds"] > 0
        assert entries["difference"] <= 1e-15
        memory = results[f"evaluation/{evaluator}/peak_memory_bytes"]
        assert (memory is not None) == CLEAR.exists()
    assert results["evaluation/pycocotools/ratio"] == 1
    keys = {re.sub(r"^evaluation/\w+/", "evaluation/<evaluator>/", key) for key in results}
    assert "evaluation/<evaluator>/difference" in keys
    missing = [key for key in keys if "evaluation" in key and f"`{key}`" not in RESULTS]
    assert missing == []


def test_metrics_that_differ_are_an_error():
    expected = {"map": 0.5, "ap/rare": float("nan")}
    same = compare({"hotcoco": {**expected}, "pycocotools": expected})
    assert same == {"hotcoco": 0, "pycocotools": 0}
    for wrong in ({**expected, "map": 0.5 + 1e-9}, {**expected, "ap/rare": 0.0}):
        with pytest.raises(TrainingError, match=r"metrics of faster_coco_eval .* differ .*Fix: "):
            compare({"faster_coco_eval": wrong, "pycocotools": expected})


def test_made_up_detections_are_a_plausible_data_set():
    annotations, found = make_detections(300, 20)
    assert len(annotations) == len(found.images) == 300
    assert len(annotations.labels) / 300 == pytest.approx(7, abs=0.5)
    assert (np.diff(found.starts) == 20).all()
    assert set(annotations.labels) == set(found.labels) == set(range(1, CLASSES + 1))
    assert 0 < annotations.is_crowd.mean() < 0.03
    metrics = coco_metrics(annotations, found)
    sizes = [metrics[f"map_{size}"] for size in ("small", "medium", "large")]
    assert all(0.005 < value < 0.9 for value in (metrics["map"], *sizes))


def test_a_process_that_ends_is_an_error(monkeypatch):
    def end(pool, *arguments):
        raise BrokenProcessPool

    monkeypatch.setattr(evaluation.ProcessPoolExecutor, "submit", end)
    with pytest.raises(TrainingError, match=r"memory of pycocotools .*Fix: lower benchmark.images"):
        evaluation.peak_memory("pycocotools", 2, 2)

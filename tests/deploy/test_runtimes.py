"""Exported files in their runtimes, and the script that times them without this package."""

import json
import os
import random
import re
import runpy
import shutil
import statistics
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from parcnet_train.benchmarks.latency import write_network
from parcnet_train.deploy import runtimes
from parcnet_train.deploy.formats.mnn import write_mnn
from parcnet_train.deploy.formats.openvino import read_description, write_openvino
from parcnet_train.deploy.runtimes import open_model, pinned, size_of, summary, take_turns

SIZE = (12, 20)
SCRIPT = Path(__file__).parents[2] / "scripts" / "time_models.py"
NEEDS_AFFINITY = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="the system cannot bind processes to cores"
)


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


def test_rounds_are_shuffled_and_each_timed_run_follows_an_untimed_one():
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "abc"}
    random.seed(0)
    times = take_turns(runs, iterations=7, warmup=3)
    assert {name: len(each) for name, each in times.items()} == {"a": 7, "b": 7, "c": 7}
    assert calls[::2] == calls[1::2]
    turns = ["".join(calls[start : start + 6 : 2]) for start in range(0, len(calls), 6)]
    assert len(turns) == 10
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len(set(turns)) > 2


def test_percentiles_match_the_standard_library():
    times = np.random.default_rng(0).exponential(size=100).tolist()
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    assert summary(times) == pytest.approx(
        {
            "milliseconds": statistics.median(times),
            "milliseconds_p90": cuts[89],
            "milliseconds_p99": cuts[98],
            "milliseconds_min": min(times),
        }
    )


@NEEDS_AFFINITY
def test_threads_are_pinned_to_the_last_cores_and_released():
    before = os.sched_getaffinity(0)
    done = threading.Event()
    older = threading.Thread(target=done.wait)
    older.start()
    try:
        with pinned(1) as cores:
            assert cores == [max(before)]
            assert os.sched_getaffinity(0) == os.sched_getaffinity(older.native_id) == set(cores)
        assert os.sched_getaffinity(0) == os.sched_getaffinity(older.native_id) == before
    finally:
        done.set()
        older.join()


def test_pinning_yields_none_on_systems_without_support(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pinned(1) as cores:
        assert cores is None
    assert runtimes.machine(1, None)["hardware/pinned_to"] is None


def test_machine_is_described(monkeypatch):
    told = {"/proc/device-tree/model": "Raspberry Pi 5", "/proc/cpuinfo": "Hardware\t: BCM2835\n"}
    told["/sys/devices/system/cpu/cpu3/cpufreq/scaling_governor"] = "ondemand"
    monkeypatch.setattr(runtimes, "words_of", lambda path: told.get(str(path)))
    found = runtimes.machine(2, [3, 4])
    assert found["hardware/cpu"] == "BCM2835"
    assert found["hardware/board"] == "Raspberry Pi 5"
    assert found["hardware/governor"] == "ondemand"
    assert found["hardware/largest_khz"] is None
    assert (found["hardware/threads"], found["hardware/pinned_to"]) == (2, [3, 4])
    assert found["numpy_version"] == np.__version__
    assert found["mnn_version"]


def test_image_size_is_read_from_file_names():
    assert size_of(Path("parcnet_s-classification-256x192.onnx"), (1, 2)) == (256, 192)
    assert size_of(Path("8x8/net.onnx"), (1, 2)) == (1, 2)


def test_script_runs_without_this_package_and_torch(files, tmp_path):
    for file in files.values():
        shutil.copy(file, tmp_path)
    shutil.copy(runtimes.__file__, tmp_path / "time_models.py")
    alone = (
        "import runpy, sys; sys.modules.update(parcnet_train=None, torch=None); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    names = [file.name for file in files.values()]
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; del sys.argv[0]; {alone}",
            "time_models.py",
            *names,
            "--iterations",
            "3",
            "--warmup",
            "1",
            "--output",
            "times.json",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "times.json").read_text())
    assert (results["hardware/threads"], results["iterations"]) == (1, 3)
    for name in names:
        assert f" {name}\n" in process.stdout
        median, p99 = (results[f"latency/{name}/milliseconds{end}"] for end in ("", "_p99"))
        assert 0 < median <= p99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.txt"], r"x\.txt: .*\.onnx, \.xml, \.mnn"),
        (["absent.onnx"], r"absent\.onnx: expected an existing file"),
        (["small.onnx", "--threads", "0"], r"--threads .*at least 1"),
        (["small.mnn"], r"small\.mnn: MNN is not installed.*pip install MNN"),
    ],
)
def test_script_rejects_wrong_arguments(arguments, message, tmp_path, monkeypatch, capsys):
    for name in ("x.txt", "small.onnx", "small.mnn"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["time_models.py", *arguments])
    find = runtimes.importlib.metadata.version

    def version(package):
        if package == "MNN":
            raise runtimes.importlib.metadata.PackageNotFoundError
        return find(package)

    monkeypatch.setattr(runtimes.importlib.metadata, "version", version)
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert re.search(message, capsys.readouterr().err)

"""`benchmark.protocol=mlperf_mobile`: what it measures, leaves and refuses."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import venv
from importlib.util import find_spec

import pytest

from parcnet_train.actions.benchmark.mlperf import of_export
from parcnet_train.benchmarks import mlperf
from parcnet_train.benchmarks.exported import INT8_RUNTIMES
from running import TINY, configure, run

MLPERF = ("action=benchmark", "benchmark.target=latency", "benchmark.protocol=mlperf_mobile")
RUNTIMES = {
    "onnxruntime": ("onnxruntime", ".onnx"),
    "openvino": ("openvino", ".xml"),
    "mnn": ("MNN", ".mnn"),
    "ncnn": ("ncnn", ".ncnn.param"),
    "pytorch": ("torch", ".pt2"),
    "litert": ("ai_edge_litert", ".tflite"),
    "executorch": ("executorch", ".pte"),
}
FEW = {"litert", "executorch"}  # in the environment of `make runtimes`
NEEDED = {"executorch": "pytorch"}  # runtimes that need another one, whose files are timed too
# Refuses to import what a device does not have, in every process that is started with it.
EMPTY = "import sys\nfor name in {}:\n    sys.modules[name] = None\n"


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(mlperf, "LEAST_IMAGES", 64)
    monkeypatch.setattr(mlperf, "LEAST_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), "benchmark.protocol=mlperf_mobile: it times a trained network, whose accuracy it mea"),
        (
            ("benchmark.backbones=[parcnet_s]",),
            "benchmark.protocol=mlperf_mobile: it times the network of ckpt; expected benchmark.ba",
        ),
        (
            ("benchmark.iterations=50",),
            "benchmark.iterations=50: benchmark.protocol=mlperf_mobile does not use this key; expe",
        ),
        (("export.preprocess=true",), "export.preprocess=true: benchmark.protocol=mlperf_mobile"),
        (("export.float_layers=[a]",), "export.float_layers=['a']: benchmark.protocol=mlperf_mobi"),
        (("export.symmetric=true",), "export.symmetric=true: expected int8 in benchmark.forms"),
        (
            (
                "export.percentile=99.9",
                "benchmark.forms=[int8]",
                "benchmark.runtimes=[openvino,mnn]",
            ),
            "export.percentile=99.9: expected int8 in benchmark.forms, and of the runtimes with",
        ),
        (("benchmark.protocol=mlperf",), "benchmark.protocol=mlperf: expected one of paper, mlper"),
    ],
)
def test_what_does_not_fit_is_refused(overrides, message):
    _, faults = configure([*MLPERF, *overrides])
    assert any(fault.startswith(message) for fault in faults)


def test_ranges_are_accepted_if_all_runtimes_use_them():
    settings = ("benchmark.forms=[int8]", "benchmark.runtimes=[onnxruntime,openvino,ncnn]")
    _, faults = configure([*MLPERF, "export.percentile=99.9", *settings])
    assert not [fault for fault in faults if "percentile" in fault]


@pytest.mark.parametrize(
    ("runtime", "faults"), [("onnxruntime", 0), ("mnn", 1)], ids=["onnxruntime", "mnn"]
)
def test_images_of_more_channels_are_timed_where_int8_takes_them(runtime, faults):
    own = ("data.channels=4", "benchmark.forms=[int8]", f"benchmark.runtimes=[{runtime}]")
    _, found = configure([*MLPERF, *own])
    assert len([each for each in found if "RGB" in each]) == faults


@pytest.mark.slow
def test_a_missing_validation_set_is_named(trained):
    missing = ("data=imagefolder", "data.root=/nowhere")
    _, faults = configure([*MLPERF, f"ckpt={trained[0]}", *missing])
    assert any("/nowhere" in fault for fault in faults)


def test_the_whole_validation_set_is_evaluated():
    config, _ = configure([*TINY, *MLPERF, "benchmark.image_size=48", "export.decode=true"])
    assert config["trainer"]["limit_val_batches"] == 2  # of debug=tiny
    wanted = of_export(config)
    assert wanted["trainer"]["limit_val_batches"] == 1.0
    assert wanted["recipe"]["image_size"] == 48
    assert wanted["export"]["decode"] is False


@pytest.mark.slow
def test_accuracy_and_latency_of_a_trained_classifier(trained, tmp_path, short):
    settings = ("benchmark.runtimes=[onnxruntime,ncnn]", "benchmark.forms=[baked,int8]")
    results = run((*TINY, *MLPERF, f"ckpt={trained[0]}", *settings), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert (results["protocol"], results["metric"]) == ("mlperf_mobile", "val/top1")
    timed = ("baked/onnxruntime", "baked/ncnn", "int8/onnxruntime")
    for each in timed:
        key = f"latency/parcnet_xs/{each}"
        assert results[f"{key}/inferences"] == 64
        assert results[f"{key}/milliseconds_p90"] >= results[f"{key}/milliseconds"] > 0
    exact = results["latency/parcnet_xs/baked/onnxruntime/accuracy"]
    assert exact == pytest.approx(results["accuracy_pytorch"], abs=1e-6)
    keys = {key for key in results if key.endswith("/milliseconds")}
    assert keys == {f"latency/parcnet_xs/{each}/milliseconds" for each in timed}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_dense_tasks(task, tmp_path, short):
    network = ("backbone=parcnet_xs", "backbone.depths=[1,1,1]", f"task={task}")
    tiny = ("debug=tiny", *network, "recipe.image_size=64", "recipe.batch_size=2")
    run(tiny, tmp_path / "trained")
    settings = (f"ckpt={tmp_path / 'trained'}", "benchmark.runtimes=[onnxruntime]")
    results = run((*tiny, *MLPERF, *settings), tmp_path / "stream")
    assert results["metric"] == {"detection": "val/map", "segmentation": "val/miou"}[task]
    # Rounding may change the order of nearly equal scores.
    found = results["latency/parcnet_xs/baked/onnxruntime/accuracy"]
    assert found == pytest.approx(results["accuracy_pytorch"], abs=0.01)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Files of a network for all installed runtimes, as a benchmark leaves them."""
    folder = tmp_path_factory.mktemp("bundle")
    settings = ("benchmark.backbones=[parc_mobilenetv2]", "benchmark.image_size=[32,64]")
    installed = [name for name, (package, _) in RUNTIMES.items() if find_spec(package)]
    forms = (f"benchmark.runtimes=[{','.join(installed)}]", "benchmark.forms=[baked,int8]")
    results = run((*MLPERF[:2], *settings, *forms, "benchmark.iterations=1"), folder)
    for runtime in installed:
        assert f"latency/parc_mobilenetv2/baked/{runtime}/milliseconds" in results
        int8 = f"latency/parc_mobilenetv2/int8/{runtime}/milliseconds"
        assert (int8 in results) == (runtime in INT8_RUNTIMES)
    return folder / "models"


def timed(python, bundle, environment):
    """Run the script as on a device; return what it printed, and its results."""
    finished = subprocess.run(
        [python, "time_models.py", "--iterations", "2", "--warmup", "0"],
        cwd=bundle,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout, json.loads((bundle / "latency.json").read_text())


def assert_timed(runtime, results):
    """Assert that exactly the files of one runtime, and of the one that it needs, were timed."""
    names = {key.split("/")[1] for key in results if key.startswith("latency/")}
    assert names == {
        f"parc_mobilenetv2-classification-32x64{form}{RUNTIMES[each][1]}"
        for each in {runtime, NEEDED.get(runtime, runtime)}
        for form in ("", "-int8")
        if not form or each in INT8_RUNTIMES
    }
    sizes = {name: results[f"latency/{name}/bytes"] for name in names}
    assert max(sizes.values()) > 10e6
    assert min(sizes.values()) > 3e6


@pytest.mark.slow
@pytest.mark.parametrize(
    "runtime",
    [pytest.param(each, marks=pytest.mark.runtimes if each in FEW else ()) for each in RUNTIMES],
)
def test_a_device_with_one_runtime_times_its_files(runtime, bundle, tmp_path):
    """None of the other packages can be imported."""
    copied = shutil.copytree(bundle, tmp_path / "copied")
    installed = {runtime, NEEDED.get(runtime, runtime)}
    others = {package for name, (package, _) in RUNTIMES.items() if name not in installed}
    refused = sorted({*others, "torchvision", "cv2", "parcnet_train"})
    (tmp_path / "sitecustomize.py").write_text(EMPTY.format(refused))
    _, results = timed(sys.executable, copied, {**os.environ, "PYTHONPATH": str(tmp_path)})
    assert_timed(runtime, results)


@pytest.mark.slow
def test_an_environment_needs_only_numpy_and_a_runtime(bundle, tmp_path):
    copied = shutil.copytree(bundle, tmp_path / "copied")
    venv.create(tmp_path / "device", symlinks=True)
    (packages,) = (tmp_path / "device").glob("lib/*/site-packages")
    for name in ("numpy", "onnxruntime"):
        distribution = importlib.metadata.distribution(name)
        for part in {each.parts[0] for each in distribution.files} - {".."}:
            (packages / part).symlink_to(distribution.locate_file(part))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    said, results = timed(tmp_path / "device" / "bin" / "python", copied, environment)
    assert_timed("onnxruntime", results)
    for missing in ("openvino", "MNN", "ncnn", "torch"):
        assert f"missing {missing}. Fix: pip install {missing}" in said

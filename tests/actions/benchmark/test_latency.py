"""`benchmark.target=latency`: what is timed, what it leaves, and what it refuses."""

import json
import sys

import pytest

from parcnet_train.errors import ConfigError
from running import configure, run

OVERRIDES = ("action=benchmark", "benchmark.target=latency", "benchmark.image_size=[32,64]")
NUMBERS = ("milliseconds", "milliseconds_p90", "milliseconds_p99", "milliseconds_min")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latency")
    settings = ("benchmark.backbones=[mobilenetv2,parc_mobilenetv2]", "benchmark.iterations=3")
    settings += ("benchmark.runtimes=[onnxruntime,mnn]",)
    return folder, run([*OVERRIDES, *settings, "benchmark.threads=1"], folder)


@pytest.mark.slow
def test_it_writes_every_pair_of_network_and_runtime(measured):
    folder, results = measured
    assert results == json.loads((folder / "results.json").read_text())
    keys = [
        f"latency/{backbone}/baked/{runtime}/{number}"
        for backbone in ("mobilenetv2", "parc_mobilenetv2")
        for runtime in ("onnxruntime", "mnn")
        for number in (*NUMBERS, "difference", "bytes", "load_milliseconds", "peak_memory_bytes")
    ]
    assert [key for key in results if key.startswith("latency/")] == keys
    for key in keys:
        if key.endswith("/difference"):
            assert 0 < results[key] < 1e-4
        elif not key.endswith("/peak_memory_bytes"):  # known on Linux
            assert results[key] > 0
    assert (results["target"], results["protocol"]) == ("latency", "paper")
    assert results["iterations"] == 3
    assert (results["image_size"], results["hardware/threads"]) == ([32, 64], 1)
    assert {"hardware/governor", "hardware/pinned_to", "mnn_version", "system"} <= set(results)


@pytest.mark.slow
def test_table_3_has_the_rows_that_were_timed(measured):
    _, results = measured
    row8 = "table3/row8"
    assert results[f"{row8}/model"] == "ParC-MobileNetV2"
    assert results[f"{row8}/times_faster_paper"] == pytest.approx(24 / 27)
    column = f"{row8}/baked/onnxruntime"
    assert results[f"{column}/milliseconds"] == pytest.approx(
        results["latency/parc_mobilenetv2/baked/onnxruntime/milliseconds"]
    )
    assert results[f"{column}/times_faster"] > 0
    assert not [key for key in results if key.startswith("table3/row2/baked")]


@pytest.mark.slow
def test_files_and_script_can_be_taken_elsewhere(measured):
    folder, _ = measured
    stems = [f"{b}-classification-32x64" for b in ("mobilenetv2", "parc_mobilenetv2")]
    files = {f"{stem}{suffix}" for stem in stems for suffix in (".onnx", ".mnn")}
    assert {each.name for each in (folder / "models").iterdir()} == {*files, "time_models.py"}
    assert (folder / "latency.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_int8_is_timed_where_it_runs(tmp_path, caplog):
    caplog.set_level("INFO")
    settings = ("benchmark.backbones=[mobilenetv2]", "benchmark.iterations=2")
    forms = ("benchmark.forms=[baked,int8]", "benchmark.runtimes=[pytorch,onnxruntime,mnn]")
    results = run([*OVERRIDES, *settings, *forms], tmp_path)
    timed = {key.rsplit("/", 1)[0] for key in results if key.startswith("latency/")}
    runtimes = ("onnxruntime", "mnn")
    columns = (
        "baked/pytorch",
        *(f"{form}/{each}" for form in ("baked", "int8") for each in runtimes),
    )
    assert "benchmark.forms: int8 is not timed in pytorch" in caplog.text
    assert timed == {f"latency/mobilenetv2/{column}" for column in columns}
    files = {each.name: each.stat().st_size for each in (tmp_path / "models").glob("mobile*")}
    for suffix in (".onnx", ".mnn"):
        stem = "mobilenetv2-classification"
        assert files[f"{stem}-32x64-int8{suffix}"] < 0.4 * files[f"{stem}-32x64{suffix}"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "benchmark.runtimes=[tflite]",
            "benchmark.runtimes=['tflite']: expected a list of values, each one",
        ),
        (
            "benchmark.runtimes=[]",
            "benchmark.runtimes=[]: expected a list of values, each one of pytorch",
        ),
        ("benchmark.forms=[baked,baked]", "benchmark.forms=['baked','baked']: expected a list"),
        ("benchmark.backbones=parcnet_s", "benchmark.backbones=parcnet_s: "),
        ("benchmark.threads=0", "benchmark.threads=0: expected a whole number of at least 1"),
        ("task=detection", "benchmark.target=latency: it does not support task=detection; expect"),
    ],
)
def test_values_out_of_range_are_refused(override, message):
    _, (fault, *_) = configure([*OVERRIDES, override])
    assert fault.startswith(message)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["benchmark.backbones=[parcnet_q]"], r"benchmark.backbones=parcnet_q: .*parcnet_q"),
        (
            ["benchmark.forms=[int8]", "benchmark.runtimes=[pytorch]"],
            r"benchmark.forms: int8 is timed in onnxruntime, openvino, mnn.*Fix: add one to bench",
        ),
        (["benchmark.threads=4096"], r"benchmark.threads=4096: expected 1 to \d+, the cores"),
    ],
)
def test_what_only_a_start_can_tell(overrides, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        run([*OVERRIDES, *overrides], tmp_path)


def test_a_missing_runtime_is_named_before_anything_is_timed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"onnxruntime is not inst.*pip install 'parcnet-train\["):
        run([*OVERRIDES, "benchmark.backbones=[mobilenetv2]"], tmp_path)
    assert not (tmp_path / "models").exists()

"""Files that are timed: which format a runtime opens, and what is left out."""

import json
from typing import get_args, get_type_hints

import numpy as np
import pytest

from lively import lively
from parcnet_train.benchmarks import exported
from parcnet_train.benchmarks.exported import (
    FORMAT_OF,
    INT8_RUNTIMES,
    Candidate,
    refuse_missing,
    worker_faults,
    write_files,
)
from parcnet_train.config.action_sections import Benchmark
from parcnet_train.deploy.exportable import ALL_VALUES
from parcnet_train.deploy.formats.formats import FORMATS
from parcnet_train.deploy.standalone.workers import WorkerError, parts_of
from parcnet_train.errors import ConfigError, TrainingError, UnwritableError
from parcnet_train.predict.tasks import ClassPredictor

SIZE = (32, 64)
IMAGES = [np.full((1, 3, *SIZE), 0.5, np.float32)]


@pytest.fixture(scope="module")
def network():
    return lively("parcnet_xs", "classification", "backbone.depths=[1,1,1]")


def test_runtimes_open_the_files_of_their_formats():
    assert FORMAT_OF == {
        "onnxruntime": "onnx",
        "openvino": "openvino",
        "mnn": "mnn",
        "ncnn": "ncnn",
        "litert": "litert",
        "executorch": "executorch",
        "pytorch": "torch_export",
    }
    assert set(INT8_RUNTIMES) == {"onnxruntime", "openvino", "mnn", "litert", "executorch"}


def test_the_configuration_knows_all_runtimes():
    words = get_args(get_args(get_type_hints(Benchmark)["runtimes"])[0])
    assert set(words) == FORMAT_OF.keys()


@pytest.mark.slow
def test_files_are_named_by_network_form_and_size(network, tmp_path):
    candidates = [Candidate("xs", form, "onnxruntime") for form in ("baked", "int8")]
    paths = write_files({"xs": network}, SIZE, candidates, tmp_path, IMAGES)
    names = ["xs-classification-32x64.onnx", "xs-classification-32x64-int8.onnx"]
    assert [path.name for path in paths.values()] == names
    assert [Candidate(*each).precision for each in (("", "int8", ""), ("", "plain", ""))] == [
        "int8",
        "float32",
    ]
    in_float, in_int8 = (path.stat().st_size for path in paths.values())
    assert in_int8 < 0.5 * in_float


def test_files_have_the_metadata_of_an_export(network, tmp_path):
    classes = [f"class {i}" for i in range(10)]
    about = ClassPredictor(classes, SIZE).about()
    candidates = [Candidate("xs", form, "onnxruntime") for form in ("baked", "int8")]
    paths = write_files(
        {"xs": network}, SIZE, candidates, tmp_path, IMAGES, ALL_VALUES, classes, about
    )
    for candidate, path in paths.items():
        metadata = candidate.format.open(path, 1).metadata
        assert json.loads(metadata["class_names"]) == classes
        assert json.loads(metadata["resize"]) == about["resize"]
        assert (metadata["precision"], metadata["opset"]) == (candidate.precision, "18")


def test_networks_as_trained_are_not_baked(network, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(exported, "write_file", lambda each, module, *_: seen.append(module))
    candidates = [Candidate("xs", form, "pytorch") for form in ("plain", "baked")]
    write_files({"xs": network}, SIZE, candidates, tmp_path, IMAGES)
    plain, baked = seen
    assert plain.network is network
    assert baked.network is not network


def test_a_file_that_cannot_be_written_is_left_out(network, tmp_path, monkeypatch, caplog):
    def write(candidate, *_):
        if candidate.runtime == "mnn":
            raise TrainingError("MNN cannot convert it")

    monkeypatch.setattr(exported, "write_file", write)
    one, other = (Candidate("xs", "baked", runtime) for runtime in ("ncnn", "mnn"))
    assert list(write_files({"xs": network}, SIZE, [one, other], tmp_path, IMAGES)) == [one]
    assert "xs/baked/mnn is left out, since it cannot be written: MNN cannot" in caplog.text
    with pytest.raises(TrainingError, match=r"no file can be written.*benchmark\.runtimes"):
        write_files({"xs": network}, SIZE, [other], tmp_path, IMAGES)


def test_a_full_disk_ends_the_run(network, tmp_path, monkeypatch):
    def write(*_):
        raise UnwritableError("a.onnx cannot be written: No space left on device")

    monkeypatch.setattr(exported, "write_file", write)
    candidates = [Candidate("xs", "baked", runtime) for runtime in ("ncnn", "mnn")]
    with pytest.raises(UnwritableError, match="No space left"):
        write_files({"xs": network}, SIZE, candidates, tmp_path, IMAGES)


def test_files_of_an_earlier_run_are_removed(network, tmp_path, monkeypatch):
    for name in ("old.onnx", "old.ncnn.param", "old.bin", "time_models.py"):
        (tmp_path / name).touch()
    monkeypatch.setattr(exported, "write_file", lambda each, network, path, *_: path.touch())
    write_files({"xs": network}, SIZE, [Candidate("xs", "baked", "mnn")], tmp_path, IMAGES)
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {"xs-classification-32x64.mnn", "time_models.py"}


@pytest.mark.parametrize(
    ("package", "candidate", "message"),
    [
        ("onnxruntime", ("onnxruntime", "baked"), r"onnxruntime is not .*parcnet-train\[onnx\]"),
        ("nncf", ("openvino", "int8"), r"nncf is not installed.*parcnet-train\[openvino\]"),
        (
            "onnxscript",
            ("mnn", "plain"),
            r"benchmark\.forms=plain: onnxscript is not .*install onn",
        ),
    ],
)
def test_missing_packages_are_named(package, candidate, message, monkeypatch):
    find = exported.find_spec
    monkeypatch.setattr(exported, "find_spec", lambda name: None if name == package else find(name))
    runtime, form = candidate
    refuse_missing([Candidate("xs", "baked", "ncnn")])
    with pytest.raises(ConfigError, match=message):
        refuse_missing([Candidate("xs", form, runtime)])


def test_a_fault_of_a_worker_is_one_of_the_run():
    with pytest.raises(TrainingError, match="mnn cannot run a"), worker_faults():
        raise WorkerError("mnn cannot run a")


def test_formats_list_the_parts_of_their_files(tmp_path):
    """The script that times files finds the same parts without this package."""
    for name in FORMAT_OF.values():
        form = FORMATS[name]
        path = tmp_path / f"file{form.suffixes[0]}"
        assert parts_of(path) == form.parts(path)

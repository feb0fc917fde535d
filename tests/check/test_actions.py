"""The check of what actions read and write."""

import os
import re
import sys

import pytest

from exporting import EXPORT
from faults import assert_one_is
from parcnet_train.deploy.formats.formats import FORMATS
from predicting import best
from running import configure, faults_of


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["paths.runs=/dev/null/x"], "/dev/null is not a writable folder"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_each_fault_is_named(overrides, message):
    assert_one_is(message, faults_of(*overrides))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0)
    (fault,) = faults_of(f"paths.runs={tmp_path}/locked/runs")
    assert fault.endswith(f"{tmp_path}/locked is not a writable folder")


def test_a_folder_that_is_not_there_is_a_fault():
    _, faults = configure(["action=report", "report.runs=/nowhere/at/all"])
    assert faults == [
        "report.runs=/nowhere/at/all: this folder does not exist; expected a folder of runs"
    ]


def test_faults(trained, tmp_path):
    ckpt, action = f"ckpt={best(trained[0])}", "action=predict"
    _, faults = configure([action])
    assert sorted(faults) == [
        "ckpt has no value; action=predict needs a checkpoint: expected last, a checkpoint file or "
        "a run directory",
        "input has no value; expected an image, a folder, a pattern "
        "such as 'photos/*.jpg', or - for names on stdin",
    ]
    _, (fault,) = configure([action, ckpt, f"input={tmp_path}/gone"])
    assert fault.startswith(f"input={tmp_path}/gone: the path does not exist; expected an image")
    (tmp_path / "empty").mkdir()
    _, (fault,) = configure([action, ckpt, f"input={tmp_path}/empty"])
    assert "empty: the folder contains no image" in fault
    _, (fault,) = configure([action, ckpt, f"input={tmp_path}/*.jpg"])
    assert "matches the pattern" in fault
    (tmp_path / "a.ckpt").write_text("no checkpoint")
    _, (fault,) = configure([action, f"ckpt={tmp_path}/a.ckpt", "input=-"])
    assert fault.startswith(
        f"ckpt={tmp_path}/a.ckpt: the file is not a checkpoint of PyTorch. Fix: "
    )
    _, (fault,) = configure([action, f"ckpt={tmp_path}/gone", "input=-"])
    assert "`last`, a checkpoint file, or a run directory" in fault
    _, (fault,) = configure(["action=profile", "input=-"])
    assert fault == (
        "input=-: action=profile does not read images. Fix: leave input out, or set action=predict"
    )
    _, faults = configure([action, ckpt, "input=5", "predict.top=0", "predict.score_threshold=1"])
    assert {fault.partition("=")[0] for fault in faults} == {
        *("input", "predict.top", "predict.score_threshold")
    }
    assert configure([action, f"ckpt={trained[0]}", "input=-", "backbone=mobilevit_xs"])[1] == []


@pytest.mark.parametrize(
    ("settings", "absent", "missing"),
    [
        ("export.format=mnn", ["MNN"], "MNN"),
        ("export.format=openvino", ["openvino", "onnx"], "openvino, onnx"),
        (
            "export.format=litert",
            ["litert_torch", "ai_edge_litert"],
            "litert_torch, ai_edge_litert",
        ),
        ("export.format=coreml export.verify=none", ["coremltools"], "coremltools"),
        ("export.format=executorch", ["executorch"], "executorch"),
        ("export.format=onnx", ["onnxruntime"], "onnxruntime"),
        ("export.format=onnx export.verify=none", ["onnxruntime"], None),
        ("export.format=torch_export", ["onnx", "onnxruntime", "MNN"], None),
    ],
)
def test_missing_packages_of_a_format_are_faults(settings, absent, missing, trained, monkeypatch):
    for name in absent:
        monkeypatch.setitem(sys.modules, name, None)
    _, faults = configure([*EXPORT, f"ckpt={best(trained[0])}", *settings.split()])
    form = settings.split()[0]
    assert faults == (
        [
            f"{form}: this format needs packages that are not installed ({missing}). Fix: "
            f"pip install 'parcnet-train[{form.partition('=')[2]}]'"
        ]
        if missing
        else []
    )


@pytest.mark.parametrize(("system", "is_refused"), [("Linux", True), ("Darwin", False)])
def test_only_macos_verifies_coreml(system, is_refused, trained, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: system)
    _, faults = configure([*EXPORT, f"ckpt={trained[0]}", "export.format=coreml"])
    message = (
        "export.verify=outputs: only macOS can run files of export.format=coreml, but this system "
        "is Linux. Fix: set export.verify=none"
    )
    assert faults == ([message] if is_refused else [])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["export.precision=int8", "export.format=torch_export"],
            "expected export.format=onnx|mnn",
        ),
        (
            ["export.sensitivity=true"],
            "export.sensitivity=true: expected export.precision=int8",
        ),
        (
            ["export.float_layers=[a]"],
            "export.float_layers=['a']: expected export.precision=int8",
        ),
        (
            ["export.precision=int8", "export.sensitivity=true", "export.argmax=true"],
            "export.sensitivity=true: it compares logits",
        ),
        (
            ["export.precision=int8", "export.format=mnn", "export.sensitivity=true"],
            "export.sensitivity=true: expected export.precision=int8 and export.format=onnx",
        ),
        (
            ["export.precision=int4"],
            "export.precision=int4: expected one of float32, float16, int8…",
        ),
        (["export.float_layers=head"], "export.float_layers=head: expected a list"),
        (["export.symmetric=true"], "export.symmetric=true: expected export.precision=int8 and"),
        (
            ["export.precision=int8", "export.format=mnn", "export.percentile=99.9"],
            "export.percentile=99.9: expected export.precision=int8 and export.format=onnx",
        ),
        (["export.percentile=40"], "export.percentile=40: expected null or a number"),
        (["export.calibration=photos"], "export.calibration=photos: only int8 measures ranges"),
        (
            ["export.precision=float16", "export.format=torch_export"],
            "export.precision=float16: … export.format=onnx|mnn|openvino|ncnn|litert|coreml",
        ),
        (
            ["export.precision=int8", "export.calibration=/nowhere"],
            "export.calibration=/nowhere: the path does not exist",
        ),
        (
            ["export.preprocess=true", "export.format=coreml", "export.verify=none"],
            "export.preprocess=true: … export.format=onnx|mnn|openvino|litert|executorch|torch",
        ),
        (["export.opset=12"], "export.opset=12: expected a whole number"),
        (
            ["export.opset=13", "export.format=torch_export"],
            "export.opset=13: … expected export.format=onnx|mnn|openvino",
        ),
        (
            ["export.preprocess=true", "export.format=mnn", "export.precision=int8"],
            "export.preprocess=true: MNN's quantizer … expected export.precision=float32",
        ),
        (
            ["export.preprocess=true", "export.format=ncnn"],
            "export.preprocess=true: … export.format=onnx|mnn|openvino|litert|executorch|torch",
        ),
        (
            ["export.argmax=true", "export.format=ncnn"],
            "export.argmax=true: … export.format=onnx|mnn|openvino|litert|executorch|torch_export",
        ),
    ],
)
def test_what_is_refused_of_int8(overrides, message, trained):
    _, faults = configure([*EXPORT, f"ckpt={trained[0]}", *overrides])
    assert_one_is(message, faults)


NO_DATA = ("data=imagefolder", "data.root=/nowhere")


@pytest.mark.parametrize(
    ("given", "way_out"),
    [
        ("export.verify=outputs", "leave out export.verify, or set export.verify=none"),
        ("export.precision=int8", "calibrate on other images: export.calibration=FOLDER"),
    ],
)
def test_missing_data_are_reported_with_the_way_to_do_without(given, way_out, trained):
    _, faults = configure([*EXPORT, f"ckpt={trained[0]}", *NO_DATA, given])
    assert_one_is(f"/nowhere…{way_out}", faults)


@pytest.mark.parametrize(
    "given",
    [[], ["export.precision=float16"], ["export.precision=int8", "export.calibration=PHOTOS"]],
)
def test_an_export_needs_no_data(given, trained, tmp_path):
    (tmp_path / "a.jpg").touch()
    given = [each.replace("PHOTOS", str(tmp_path)) for each in given]
    assert configure([*EXPORT, f"ckpt={trained[0]}", *NO_DATA, *given])[1] == []


def test_what_is_refused(trained):
    export = [*EXPORT, f"ckpt={trained[0]}"]
    _, faults = configure([*export, "export.format=onx", "export.verify=all", "export.batch=1"])
    words = " | ".join(faults)
    formats = ", ".join(FORMATS)
    assert re.search(rf"export.format=onx: expected one of {formats}.*did you mean", words)
    assert "export.verify=all: expected null or one of outputs, metric, none" in words
    assert "export.batch" in words
    _, faults = configure([*export, "export.argmax=true", "export.decode=true", "export.size=40"])
    words = " | ".join(faults)
    assert "export.argmax=true: task=classification does not classify pixels" in words
    assert "export.decode=true: task=classification does not detect objects" in words
    assert "export.size=40: expected a multiple of 32" in words


def test_objects_need_a_format_with_suppression():
    task = ["action=export", "task=detection", "ckpt=last", "export.decode=true"]
    _, faults = configure([*task, "export.format=torch_export", "export.verify=metric"])
    assert (
        "export.decode=true: export.format=torch_export does not support it; expected "
        "export.format=onnx|mnn|openvino|litert" in faults
    )
    assert any(line.startswith("export.verify=metric: the metric needs logits") for line in faults)


def test_a_checkpoint_is_needed():
    _, faults = configure(EXPORT)
    assert any("ckpt has no value; action=export needs" in line for line in faults)

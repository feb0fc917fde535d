"""`action=export`: a checkpoint as a file of another runtime."""

import dataclasses
import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import parcnet_train
from lively import lively
from parcnet_train.actions.export import export as exporting
from parcnet_train.actions.export import verify as verifying
from parcnet_train.config.rules import RULES
from parcnet_train.deploy.exportable import Exportable
from parcnet_train.deploy.formats.formats import FORMATS
from parcnet_train.deploy.formats.onnx import OnnxFile
from parcnet_train.errors import ExportError
from parcnet_train.runs.directories import RESULTS
from running import TINY, configure, run

EXPORT = (*TINY, "action=export")


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """Folder and results of an export, with the metric of its file."""
    output = tmp_path_factory.mktemp("export")
    return output, run((*EXPORT, f"ckpt={trained[0]}", "export.verify=metric"), output)


def test_the_file_gives_what_the_checkpoint_gives(trained, exported):
    output, results = exported
    path = output / "parcnet_xs-classification-32x32.onnx"
    assert results["export/file"] == str(path)
    assert results["export/bytes"] == path.stat().st_size
    torch.manual_seed(0)
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        logits = parcnet_train.load(trained[0] / "checkpoints" / "best.ckpt")(images).numpy()
    found = OnnxFile(path).run(images.numpy())["logits"]
    np.testing.assert_allclose(found, logits, atol=1e-4 * logits.std())


def test_results_tell_operators_differences_and_metrics(exported):
    output, results = exported
    assert json.loads((output / RESULTS).read_text()) == results
    assert results["export/operators/Conv"] > 20
    assert results["export/max_difference/logits"] <= 1e-4 * results["export/spread/logits"]
    assert results["export/images"] > 0
    for metric in ("val/top1", "val/loss"):
        before, after = results[f"export/before/{metric}"], results[f"export/after/{metric}"]
        assert after == pytest.approx(before, abs=1e-6)


def test_another_size_and_format(trained, tmp_path, caplog):
    overrides = (f"ckpt={trained[0]}", "export.format=torch_export", "export.size=[64,32]")
    with caplog.at_level("INFO"):
        results = run((*EXPORT, *overrides), tmp_path)
    assert results["export/size"] == [64, 32]
    assert results["export/file"].endswith("parcnet_xs-classification-64x32.pt2")
    assert results["export/operators/aten.conv2d.default"] > 20
    assert "export/before/val/top1" not in results
    assert "differs from torch by" in caplog.text


def test_mnn(trained, tmp_path):
    overrides = (f"ckpt={trained[0]}", "export.format=mnn", "export.verify=metric")
    results = run((*EXPORT, *overrides), tmp_path)
    path = tmp_path / "parcnet_xs-classification-32x32.mnn"
    assert results["export/file"] == str(path)
    assert results["export/bytes"] == path.stat().st_size
    assert results["export/operators/Conv"] > 20
    assert results["export/max_difference/logits"] <= 1e-3 * results["export/spread/logits"]
    assert results["export/after/val/top1"] == results["export/before/val/top1"]


def test_openvino(trained, tmp_path):
    overrides = (f"ckpt={trained[0]}", "export.format=openvino", "export.verify=metric")
    results = run((*EXPORT, *overrides), tmp_path)
    path = tmp_path / "parcnet_xs-classification-32x32.xml"
    assert results["export/file"] == str(path)
    weights = path.with_suffix(".bin").stat().st_size
    assert results["export/bytes"] == path.stat().st_size + weights > weights
    assert results["export/operators/Convolution"] > 20
    assert results["export/max_difference/logits"] <= 1e-4 * results["export/spread/logits"]
    assert results["export/after/val/top1"] == results["export/before/val/top1"]


def test_coreml(trained, tmp_path):
    overrides = (f"ckpt={trained[0]}", "export.format=coreml", "export.verify=none")
    results = run((*EXPORT, *overrides), tmp_path)
    path = tmp_path / "parcnet_xs-classification-32x32.mlpackage"
    assert results["export/file"] == str(path)
    files = [each for each in path.rglob("*") if each.is_file()]
    assert results["export/bytes"] == sum(len(each.read_bytes()) for each in files)
    assert results["export/operators/conv"] > 20
    assert results["export/dynamic_batch"] is False


@pytest.mark.parametrize(("system", "is_refused"), [("Linux", True), ("Darwin", False)])
def test_only_macos_verifies_coreml(system, is_refused, trained, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: system)
    _, faults = configure([*EXPORT, f"ckpt={trained[0]}", "export.format=coreml"])
    message = (
        "export.verify=outputs: only macOS runs files of export.format=coreml, and this is Linux; "
        "use export.verify=none"
    )
    assert faults == ([message] if is_refused else [])


@pytest.mark.slow
def test_a_package_over_a_tolerance_is_removed(trained, tmp_path, monkeypatch):
    """Core ML's runtime, which gives something else here, is on macOS alone."""

    class Other:
        names = ("logits",)

        def run(self, images):
            return {"logits": np.zeros((len(images), 10), np.float32)}

    form = dataclasses.replace(FORMATS["coreml"], open=lambda *_, **__: Other(), macos_only=False)
    monkeypatch.setitem(exporting.FORMATS, "coreml", form)
    with pytest.raises(ExportError, match=r"format=coreml: the file gives something else"):
        run((*EXPORT, f"ckpt={trained[0]}", "export.format=coreml"), tmp_path)
    assert not list(tmp_path.glob("parcnet_xs*"))


def test_outputs_of_an_mnn_file_have_their_names(tmp_path):
    """MNN lists them in an order of its own."""
    model = lively("parcnet_xs", "detection", classes=5)
    network = Exportable(model, (64, 96))
    FORMATS["mnn"].write(network, tmp_path / "file.mnn", network.description(list("abcde")), True)
    file = FORMATS["mnn"].open(tmp_path / "file.mnn")
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images)
    for name, found in file.run(images.numpy()).items():
        truth = getattr(expected, name).numpy()
        np.testing.assert_allclose(found, truth, atol=1e-3 * truth.std())
    assert file.names == ["class_logits", "box_offsets"]
    assert json.loads(file.metadata["class_names"]) == list("abcde")


INT8 = (*EXPORT, "export.precision=int8")


@pytest.fixture(scope="module")
def quantized(trained, tmp_path_factory):
    """Folder and results of an export to int8."""
    output = tmp_path_factory.mktemp("int8")
    wanted = ("export.sensitivity=true", "export.float_layers=['*/head/*']")
    return output, run((*INT8, f"ckpt={trained[0]}", *wanted), output)


def test_int8_has_the_metric_of_both_files(quantized):
    output, results = quantized
    assert results["export/file"] == str(output / "parcnet_xs-classification-32x32-int8.onnx")
    assert [each.name for each in output.glob("*.onnx")] == [Path(results["export/file"]).name]
    assert (results["export/precision"], results["export/verify"]) == ("int8", "metric")
    before, after = (results[f"export/{when}/val/top1"] for when in ("before", "after"))
    assert before - after <= 0.01
    assert results["export/max_difference/logits"] > 1e-4 * results["export/spread/logits"]
    assert results["export/calibration_images"] == 128
    assert OnnxFile(Path(results["export/file"])).metadata["precision"] == "int8"


def test_int8_has_a_list_of_its_layers(quantized):
    _, results = quantized
    key = "export/sensitivity/"
    listed = {name.removeprefix(key): v for name, v in results.items() if name.startswith(key)}
    assert len(listed) == results["export/operators/Conv"] + results["export/operators/Gemm"]
    assert "/network/head/linear/Gemm" in listed
    assert all(0 < decibels < 200 for decibels in listed.values())
    assert results["export/float_layers"] == ["*/head/*"]


def test_int8_of_mnn(trained, tmp_path):
    results = run((*INT8, f"ckpt={trained[0]}", "export.format=mnn"), tmp_path)
    file = Path(results["export/file"])
    assert file == tmp_path / "parcnet_xs-classification-32x32-int8.mnn"
    assert FORMATS["mnn"].open(file).metadata["precision"] == "int8"
    before, after = (results[f"export/{when}/val/top1"] for when in ("before", "after"))
    assert before - after <= 0.01
    assert results["export/calibration_images"] == 128


@pytest.mark.parametrize(
    ("form", "way_out"),
    [("onnx", "export.sensitivity=true lists them"), ("mnn", "Try another format")],
)
def test_int8_that_loses_too_much_is_removed(form, way_out, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(verifying, "INT8_LOSS", -1.0)
    given = (f"ckpt={trained[0]}", "export.calibration_images=4", f"export.format={form}")
    with pytest.raises(ExportError) as refusal:
        run((*INT8, *given), tmp_path)
    message = str(refusal.value)
    assert re.search(
        r"val/top1 is 0\.\d+, that of torch 0\.\d+; allowed is a loss of -1\.", message
    )
    assert way_out in message
    assert not list(tmp_path.glob("parcnet_xs*"))


def test_int8_reads_training_images_even_where_nothing_is_verified(trained, tmp_path):
    overrides = (f"ckpt={trained[0]}", "export.verify=none", "export.calibration_images=4")
    results = run((*INT8, *overrides), tmp_path)
    assert results["export/calibration_images"] == 4
    assert "export/images" not in results
    _, faults = configure([*INT8, *overrides, "data=imagefolder", "data.root=/nowhere"])
    assert any("/nowhere" in fault for fault in faults)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["export.precision=int8", "export.format=torch_export"],
            "export.precision=int8: allowed with export.format=onnx|mnn, not torch_export",
        ),
        (
            ["export.sensitivity=true"],
            "export.sensitivity=true: allowed with export.precision=int8",
        ),
        (
            ["export.float_layers=[a]"],
            "export.float_layers=['a']: allowed with export.precision=int8",
        ),
        (
            ["export.precision=int8", "export.sensitivity=true", "export.argmax=true"],
            "export.sensitivity=true: the noise is that of logits, which a file with export.argmax",
        ),
        (
            ["export.precision=int8", "export.format=mnn", "export.sensitivity=true"],
            "export.sensitivity=true: allowed with export.precision=int8 and export.format=onnx",
        ),
        (["export.precision=int4"], "export.precision=int4: allowed is one of float32, int8"),
        (["export.float_layers=head"], "export.float_layers=head: allowed is a list of names"),
    ],
)
def test_what_is_refused_of_int8(overrides, message, trained):
    _, faults = configure([*EXPORT, f"ckpt={trained[0]}", *overrides])
    assert any(fault.startswith(message) for fault in faults), faults


def test_without_data(trained, tmp_path):
    overrides = (f"ckpt={trained[0]}", "export.verify=none", "data.root=/nowhere")
    results = run((*EXPORT, *overrides), tmp_path)
    assert (tmp_path / "parcnet_xs-classification-32x32.onnx").is_file()
    assert "export/images" not in results


def test_a_file_over_a_tolerance_is_removed(trained, tmp_path, monkeypatch):
    strict = dataclasses.replace(FORMATS["onnx"], tolerance=1e-12)
    monkeypatch.setitem(exporting.FORMATS, "onnx", strict)
    monkeypatch.setattr(verifying, "METRIC_TOLERANCE", -1.0)
    with pytest.raises(ExportError) as refusal:
        run((*EXPORT, f"ckpt={trained[0]}", "export.verify=metric"), tmp_path)
    message = str(refusal.value)
    assert message.startswith("export.format=onnx: the file gives something else than torch, and ")
    assert "logits differs by" in message
    assert re.search(r"val/top1 is 0\.\d+, that of torch 0\.\d+; allowed is a difference", message)
    assert message.endswith("export.verify=none")
    assert not list(tmp_path.glob("*.onnx"))
    assert not (tmp_path / RESULTS).exists()


def test_so_is_a_file_whose_comparison_is_interrupted(trained, tmp_path, monkeypatch):
    def press_ctrl_c(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(verifying.Comparing, "forward", press_ctrl_c)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):  # of which Lightning makes an exit code of 1
            run((*EXPORT, f"ckpt={trained[0]}"), tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)  # which Lightning switches off
    assert not list(tmp_path.glob("*.onnx"))


def test_so_are_all_its_parts(trained, tmp_path, monkeypatch):
    strict = dataclasses.replace(FORMATS["openvino"], tolerance=1e-12)
    monkeypatch.setitem(exporting.FORMATS, "openvino", strict)
    with pytest.raises(ExportError, match=r"format=openvino: the file gives something else"):
        run((*EXPORT, f"ckpt={trained[0]}", "export.format=openvino"), tmp_path)
    assert not list(tmp_path.glob("parcnet_xs*"))


def test_what_is_refused(trained):
    export = [*EXPORT, f"ckpt={trained[0]}"]
    _, faults = configure([*export, "export.format=onx", "export.verify=all", "export.batch=1"])
    words = " | ".join(faults)
    formats = ", ".join(FORMATS)
    assert re.search(rf"export.format=onx: allowed is one of {formats}.*did you mean", words)
    assert "export.verify=all: allowed is null or one of outputs, metric, none" in words
    assert "export.batch" in words
    _, faults = configure([*export, "export.argmax=true", "export.decode=true", "export.size=40"])
    words = " | ".join(faults)
    assert "export.argmax=true: allowed with task=segmentation, not with task=class" in words
    assert "export.decode=true: allowed with task=detection, not with task=class" in words
    assert "export.size=40: allowed are multiples of 32" in words


def test_objects_need_a_format_with_suppression():
    task = ["action=export", "task=detection", "ckpt=last", "export.decode=true"]
    _, faults = configure([*task, "export.format=torch_export", "export.verify=metric"])
    assert (
        "export.decode=true: allowed with export.format=onnx|openvino, not torch_export" in faults
    )
    assert any(
        line.startswith("export.verify=metric: the metric is made of logits") for line in faults
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "option", "others"),
    [("detection", "decode", "objects"), ("segmentation", "argmax", "classes")],
)
def test_dense_tasks(task, option, others, tmp_path):
    network = ("backbone=parcnet_xs", "backbone.depths=[1,1,1]", f"task={task}")
    tiny = ("debug=tiny", *network, "recipe.image_size=64", "recipe.batch_size=2")
    run(tiny, tmp_path / "trained")
    export = (*tiny, "action=export", f"ckpt={tmp_path / 'trained'}")
    results = run((*export, "export.verify=metric"), tmp_path / "logits")
    monitor = {"detection": "val/map", "segmentation": "val/miou"}[task]
    after = results[f"export/after/{monitor}"]
    assert after == pytest.approx(results[f"export/before/{monitor}"], abs=1e-6)
    results = run((*export, "export.precision=int8"), tmp_path / "int8")
    assert results[f"export/after/{monitor}"] >= results[f"export/before/{monitor}"] - 0.01
    results = run((*export, "export.precision=int8", f"export.{option}=true"), tmp_path / "both")
    assert results["export/verify"] == "outputs"
    assert 0 <= results[f"export/others/{others}"] <= 1
    results = run((*export, f"export.{option}=true"), tmp_path / option)
    assert results[f"export/others/{others}"] <= 1e-3
    assert results["export/images"] >= 64


def test_a_checkpoint_is_needed():
    _, faults = configure(EXPORT)
    assert any("ckpt has no value; action=export needs one" in line for line in faults)


def test_every_format_is_allowed():
    assert RULES["export.format"].allowed == tuple(FORMATS)

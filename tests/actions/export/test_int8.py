"""Exports to int8."""

import re
from pathlib import Path

import pytest

from exporting import EXPORT
from parcnet_train.actions.export import verify as verifying
from parcnet_train.deploy.formats.formats import FORMATS
from parcnet_train.deploy.formats.onnx import OnnxFile
from parcnet_train.errors import ExportError
from running import configure, run

INT8 = (*EXPORT, "export.precision=int8")


@pytest.fixture(scope="module")
def quantized(trained, tmp_path_factory):
    """Folder and results of an export to int8."""
    output = tmp_path_factory.mktemp("int8")
    wanted = ("export.sensitivity=true", "export.float_layers=['*/head/*']")
    return output, run((*INT8, f"ckpt={trained[0]}", *wanted), output)


@pytest.mark.slow
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


@pytest.mark.slow
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
    [("onnx", "export.sensitivity=true lists them"), ("mnn", "try another format")],
)
def test_int8_that_loses_too_much_is_removed(form, way_out, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(verifying, "LARGEST_LOSS", -1.0)
    given = (f"ckpt={trained[0]}", "export.calibration_images=4", f"export.format={form}")
    with pytest.raises(ExportError) as refusal:
        run((*INT8, *given), tmp_path)
    message = str(refusal.value)
    assert re.search(r"val/top1 is 0\.\d+, PyTorch has 0\.\d+; expected a loss of -1\.", message)
    assert way_out in message
    assert not list(tmp_path.glob("parcnet_xs*"))


@pytest.mark.slow
def test_int8_reads_training_images_even_where_nothing_is_verified(trained, tmp_path):
    overrides = (f"ckpt={trained[0]}", "export.verify=none", "export.calibration_images=4")
    results = run((*INT8, *overrides), tmp_path)
    assert results["export/calibration_images"] == 4
    assert "export/images" not in results
    _, faults = configure([*INT8, *overrides, "data=imagefolder", "data.root=/nowhere"])
    assert any("/nowhere" in fault for fault in faults)

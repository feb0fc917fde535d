"""`action=export`: a checkpoint as a file of another runtime."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import parcnet_train
from exporting import EXPORT
from parcnet_train.deploy.formats.onnx import OnnxFile
from parcnet_train.deploy.formats.verify import Difference
from parcnet_train.errors import ExportError
from parcnet_train.runs.directories import RESULTS
from running import run
from standalone import answers, pictures


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


@pytest.mark.slow
def test_another_size_and_format(trained, tmp_path, caplog):
    overrides = (f"ckpt={trained[0]}", "export.format=torch_export", "export.size=[64,32]")
    with caplog.at_level("INFO"):
        results = run((*EXPORT, *overrides), tmp_path)
    assert results["export/size"] == [64, 32]
    assert results["export/file"].endswith("parcnet_xs-classification-64x32.pt2")
    assert results["export/operators/aten.conv2d.default"] > 20
    assert "export/before/val/top1" not in results
    assert "differs from PyTorch by" in caplog.text


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


@pytest.mark.slow
def test_coreml(trained, tmp_path):
    overrides = (f"ckpt={trained[0]}", "export.format=coreml", "export.verify=none")
    results = run((*EXPORT, *overrides), tmp_path)
    path = tmp_path / "parcnet_xs-classification-32x32.mlpackage"
    assert results["export/file"] == str(path)
    files = [each for each in path.rglob("*") if each.is_file()]
    assert results["export/bytes"] == sum(len(each.read_bytes()) for each in files)
    assert results["export/operators/conv"] > 20
    assert results["export/dynamic_batch"] is False


def test_without_data(trained, tmp_path):
    overrides = (f"ckpt={trained[0]}", "export.verify=none", "data.root=/nowhere")
    results = run((*EXPORT, *overrides), tmp_path)
    assert (tmp_path / "parcnet_xs-classification-32x32.onnx").is_file()
    assert "export/images" not in results


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_generated_images_where_the_data_are_missing(precision, trained, tmp_path, caplog):
    missing = (f"ckpt={trained[0]}", "data=imagefolder", "data.root=/nowhere")
    with caplog.at_level("INFO"):
        results = run((*EXPORT, *missing, f"export.precision={precision}"), tmp_path)
    assert results["export/verify"] == "outputs"
    metadata = OnnxFile(Path(results["export/file"])).metadata
    assert (metadata["precision"], metadata["opset"]) == (precision, "18")
    assert "compared with PyTorch on generated images" in caplog.text
    assert "export.verify=none" in caplog.text
    assert "/nowhere" in caplog.text
    assert results["export/generated_images"] is True
    assert results["export/images"] == 16
    limit = {"float32": 1e-4, "float16": 1e-1}[precision] * results["export/spread/logits"]
    assert 0 < results["export/max_difference/logits"] <= limit


def test_a_wrong_file_is_removed_also_without_data(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(Difference, "is_within", lambda self, tolerance: False)
    missing = (f"ckpt={trained[0]}", "data=imagefolder", "data.root=/nowhere")
    with pytest.raises(ExportError, match=r"the file was removed: logits differs by"):
        run((*EXPORT, *missing), tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


def test_the_script_beside_the_file_answers_as_predict_does(trained, exported, tmp_path):
    paths = pictures(tmp_path)
    network = parcnet_train.load(trained[0] / "checkpoints" / "best.ckpt")
    found = answers(Path(exported[1]["export/script"]), paths, folder=tmp_path)
    for path, ours in zip(paths, found, strict=True):
        expected = network.predict(path)
        assert [each["class"] for each in ours["predictions"]] == expected.names


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
    # Scores of an untrained network are nearly equal, so that rounding may change their order, and
    # with it the average precision; outputs are compared by `export.verify=outputs`.
    assert after == pytest.approx(results[f"export/before/{monitor}"], abs=5e-3)
    results = run((*export, "export.precision=int8"), tmp_path / "int8")
    assert results[f"export/after/{monitor}"] >= results[f"export/before/{monitor}"] - 0.01
    results = run((*export, "export.precision=int8", f"export.{option}=true"), tmp_path / "both")
    assert results["export/verify"] == "outputs"
    assert 0 <= results[f"export/others/{others}"] <= 1
    results = run((*export, f"export.{option}=true"), tmp_path / option)
    assert results[f"export/others/{others}"] <= 1e-3
    assert results["export/images"] >= 64

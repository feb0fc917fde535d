"""`action=predict`: as the evaluation has it, from the checkpoint alone, whatever the files are."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import torch

import parcnet_train
import running
from coco_files import VAL as COCO_VAL
from coco_files import write_coco
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.data.classification.dataset import ImageFolderDataset
from parcnet_train.data.classification.transforms import EvalTransform
from parcnet_train.data.samplers import SampleKey
from parcnet_train.data.segmentation.palette import read_mask
from parcnet_train.errors import CheckpointError, UnreadableError
from parcnet_train.predict.inputs import read_file
from parcnet_train.predict.predictions import Classified, Detected, Segmented
from parcnet_train.predict.tasks import ClassPredictor
from parcnet_train.tasks.segmentation import SegmentationTask
from running import TINY, configure, run
from voc_files import VAL as VOC_VAL
from voc_files import image_path, write_voc

DOCUMENT = (running.CONF.parent / "docs" / "predict.md").read_text()


def best(folder):
    return folder / "checkpoints" / "best.ckpt"


def predict(ckpt, given, output, *more):
    """Predicts, and gives the results and the predictions back."""
    results = run(["action=predict", f"ckpt={ckpt}", f"input={given}", *more], output)
    return results, json.loads((output / "predictions.json").read_text())


def photo(number=0, height=30, width=40):
    coarse = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def write_mixed(folder):
    """20 good images, and six that are not as most are; two of them cannot be read."""
    folder.mkdir()
    for number in range(20):
        ending = ("jpg", "png")[number % 2]
        cv2.imwrite(str(folder / f"good{number:02d}.{ending}"), photo(number))
    (folder / "x.jpg").write_text("this is no image")
    whole = cv2.imencode(".jpg", photo(0, 300, 400))[1].tobytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    PIL.Image.fromarray(photo(1)).convert("CMYK").save(folder / "cmyk.jpg")
    cv2.imwrite(str(folder / "deep.png"), photo(2).astype(np.uint16) * 257)
    first, *others = (PIL.Image.fromarray(photo(number)) for number in (3, 4, 5))
    first.save(folder / "animated.gif", save_all=True, append_images=others)
    return folder


def test_twenty_good_images_and_five_others(trained, tmp_path):
    folder = write_mixed(tmp_path / "photos")
    assert len(list(folder.iterdir())) == 25
    command = [sys.executable, "-m", "parcnet_train", "action=predict", f"ckpt={best(trained[0])}"]
    done = subprocess.run(
        [*command, "input=photos"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    errors = done.stderr.splitlines()
    assert len(errors) == 2, done.stderr
    assert errors[0].startswith("error: photos/truncated.jpg: image file is truncated")
    assert errors[1] == "error: photos/x.jpg: it is no image of a format that can be read"
    assert "23 of 25 images" in done.stdout
    (output,) = tmp_path.glob("runs/predict/*")
    rows = json.loads((output / "predictions.json").read_text())
    assert len(rows) == 23
    assert {row["file"] for row in rows} == {
        f"photos/{path.name}" for path in folder.iterdir() if path.stem not in ("x", "truncated")
    }
    results = json.loads((output / "results.json").read_text())
    assert (results["images"], results["predicted"], results["failed"]) == (25, 23, 2)
    assert [f"error: {failure}" for failure in results["failures"]] == errors
    assert [key for key in results if f"`{key}`" not in DOCUMENT] == []
    with (output / "predictions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 23 * 5
    assert table[5]["rank"] == "1"
    assert float(table[5]["probability"]) == rows[1]["predictions"][0]["probability"]


def test_classes_are_those_of_the_evaluation(trained, tmp_path):
    ckpt = best(trained[0])
    root = Path(read_checkpoint(ckpt)["config"]["data"]["root"]).expanduser()
    # None of what is composed here is the checkpoint's.
    others = ["backbone=mobilevit_xs", "task=detection", "recipe.image_size=[96,64]"]
    sizes = ["predict.batch_size=4", "predict.top=20"]
    results, rows = predict(ckpt, f"{root}/val", tmp_path / "predict", *others, *sizes)
    tested = run([*TINY, "action=test", f"ckpt={ckpt}", "trainer.limit_val_batches=1.0"], tmp_path)
    is_right = [row["file"].split("/")[-2] == row["predictions"][0]["class"] for row in rows]
    assert len(rows) == results["predicted"] > 300
    # One image at most is so near to two classes that rounding, other in other batches, decides.
    assert sum(is_right) == pytest.approx(len(rows) * tested["val/top1"], abs=1.01)
    assert results["task"] == "classification"
    assert results["backbone"] == "parcnet_xs"
    probabilities = [[each["probability"] for each in row["predictions"]] for row in rows]
    assert {len(each) for each in probabilities} == {10}  # all, where there are fewer
    assert np.allclose(np.sum(probabilities, axis=1), 1)
    assert all(each == sorted(each, reverse=True) for each in probabilities)


def test_images_are_prepared_as_for_the_evaluation(trained, image_folder):
    predictor = parcnet_train.load(best(trained[0])).predictor
    dataset = ImageFolderDataset(
        image_folder / "train", sorted(["cat", "ant", "bee"]), EvalTransform(), "stop"
    )
    for sample in range(len(dataset)):
        expected, _ = dataset[SampleKey(sample, 0, (32, 32))]
        found = predictor.prepare(read_file(dataset.path(sample)))
        assert torch.equal(found.pixels, expected)


def test_a_result_does_not_depend_on_what_stands_beside_it(trained, tmp_path):
    folder = write_mixed(tmp_path / "photos")
    with pytest.raises(SystemExit) as caught:
        predict(best(trained[0]), folder, tmp_path / "all", "predict.batch_size=8")
    assert caught.value.code == 1
    rows = json.loads((tmp_path / "all" / "predictions.json").read_text())
    for name in ("x.jpg", "truncated.jpg", *(f"good{number:02d}.png" for number in (1, 3, 5))):
        (folder / name).unlink()
    _, fewer = predict(best(trained[0]), folder, tmp_path / "fewer", "predict.batch_size=8")
    by_file = {row["file"]: row for row in rows}
    assert len(fewer) == 20
    for row in fewer:
        expected = by_file[row["file"]]["predictions"]
        assert row["predictions"] == [
            {**each, "probability": pytest.approx(each["probability"], abs=1e-6)}
            for each in expected
        ]


def test_names_on_stdin(trained, tmp_path, monkeypatch, capsys):
    cv2.imwrite(str(tmp_path / "a b.png"), photo())
    lines = f"{tmp_path}/a b.png\n{tmp_path}/gone.png\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    with pytest.raises(SystemExit):
        predict(best(trained[0]), "-", tmp_path / "out")
    assert f"error: {tmp_path}/gone.png: No such file or directory" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 1


def test_the_limit_of_pixels_is_the_training_s_or_what_was_typed(trained, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), photo(0, 30, 40))
    cv2.imwrite(str(folder / "b.png"), photo(0, 31, 40))
    ckpt = changed(trained[0], tmp_path / "it.ckpt", max_pixels=1200)
    with pytest.raises(SystemExit) as caught:
        predict(ckpt, folder, tmp_path / "out")
    assert caught.value.code == 1
    assert re.search(r"b\.png: .*40x31.*data\.max_pixels=1200", capsys.readouterr().err)
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 1
    with pytest.raises(UnreadableError, match=r"data\.max_pixels=1200"):
        parcnet_train.load(ckpt).predict(folder / "b.png")
    results, _ = predict(ckpt, folder, tmp_path / "typed", "data.max_pixels=1240")
    assert results["predicted"] == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_a_fault_of_the_checkpoint(trained, tmp_path, value):
    cv2.imwrite(str(tmp_path / "a.png"), photo())
    checkpoint = read_checkpoint(best(trained[0]))
    for weights in (checkpoint["state_dict"], checkpoint.get("ema_state_dict") or {}):
        for values in weights.values():
            if values.is_floating_point():
                values.flatten()[0] = value
    torch.save(checkpoint, tmp_path / "it.ckpt")
    with pytest.raises(CheckpointError, match=r"ckpt=.*it\.ckpt: .*not finite"):
        predict(tmp_path / "it.ckpt", tmp_path / "a.png", tmp_path / "out")
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_probabilities_that_are_not_finite_are_a_failure_of_their_image(
    trained, tmp_path, monkeypatch, capsys
):
    """As where a network overflows in 16 bits, for some images only."""
    for name, value in (("a", 0), ("b", 255)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((32, 32, 3), value, np.uint8))
    find = ClassPredictor.find

    def overflowing(self, network, images, *others):
        def run(images):
            logits = network(images)
            return torch.where(images.flatten(1).bool().any(1, keepdim=True), torch.nan, logits)

        return find(self, run, images, *others)

    monkeypatch.setattr(ClassPredictor, "find", overflowing)
    with pytest.raises(SystemExit) as caught:
        predict(best(trained[0]), tmp_path / "*.png", tmp_path / "out")
    assert caught.value.code == 1
    assert re.search(r"b\.png: .*not finite", capsys.readouterr().err)
    (row,) = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert row["file"] == f"{tmp_path}/a.png"


def test_files_of_other_formats_are_counted_in_a_warning(trained, tmp_path, caplog):
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), photo())
    for name in ("b.heic", "c.HEIC", "notes.txt"):
        (folder / name).touch()
    with caplog.at_level("WARNING"):
        results, _ = predict(best(trained[0]), folder, tmp_path / "out")
    assert (results["images"], results["failed"]) == (1, 0)
    messages = [r.getMessage() for r in caplog.records if "heic" in r.getMessage()]
    assert len(messages) == 1
    assert "2 .heic (first b.heic)" in messages[0]


def test_nothing_but_failures_is_a_failure_too(trained, tmp_path, capsys):
    (tmp_path / "x.jpg").write_text("no")
    with pytest.raises(SystemExit) as caught:
        predict(best(trained[0]), tmp_path / "x.jpg", tmp_path / "out")
    assert caught.value.code == 1
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) == []
    assert "0 of 1 images" in capsys.readouterr().out


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """Data and run of a short training of a detector."""
    data, output = write_coco(tmp_path_factory.mktemp("coco")), tmp_path_factory.mktemp("detector")
    run([*DETECTION, f"data.root={data}"], output)
    return data, output


DETECTION = ("task=detection", "data=coco_format", *TINY[:-1], "task.pictures=0")


def changed(folder, output, **data):
    """The checkpoint of a run with other values of its data."""
    checkpoint = read_checkpoint(best(folder))
    checkpoint["config"]["data"].update(data)
    torch.save(checkpoint, output)
    return output


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_objects_are_those_of_the_evaluation(keep_aspect, detector, tmp_path):
    data, folder = detector
    ckpt = changed(folder, tmp_path / "it.ckpt", keep_aspect=keep_aspect)
    settings = [f"data.keep_aspect={str(keep_aspect).lower()}", "task.save_predictions=true"]
    settings += ["trainer.limit_val_batches=1.0", f"data.root={data}", f"ckpt={ckpt}"]
    run([*DETECTION, "action=test", *settings], tmp_path / "test")
    expected = json.loads((tmp_path / "test" / "predictions.json").read_text())
    output = tmp_path / "predict"
    _, rows = predict(ckpt, data / "val2017", output, "predict.score_threshold=0.01")
    document = json.loads((output / "images.json").read_text())
    ids = {image["file_name"]: image["id"] for image in COCO_VAL["images"]}
    theirs = {
        image["id"]: ids[image["file_name"].rpartition("/")[2]] for image in document["images"]
    }
    found = [{**row, "image_id": theirs[row["image_id"]]} for row in rows]
    assert len(found) > 20
    assert {row["category_id"] for row in found} <= {2, 7, 90}

    def by_image(rows):
        return sorted(rows, key=lambda row: row["image_id"])

    assert by_image(found) == by_image(expected)
    for image in document["images"]:
        drawn = cv2.imread(str(output / image["picture"]))
        assert max(drawn.shape) == 480
    # Higher thresholds leave the best.
    least = sorted(row["score"] for row in rows)[len(rows) // 2]
    _, fewer = predict(ckpt, data / "val2017", tmp_path, f"predict.score_threshold={least}")
    assert fewer == [row for row in rows if row["score"] > least]


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    """Data and run of a short training of a network that classifies pixels."""
    data, output = write_voc(tmp_path_factory.mktemp("voc")), tmp_path_factory.mktemp("segmenter")
    run([*SEGMENTATION, f"data.root={data}"], output)
    checkpoint = read_checkpoint(best(output))
    torch.manual_seed(0)
    for name, value in checkpoint["state_dict"].items():
        if name.startswith("model.head.") and value.dim() == 4:  # so that it finds several classes
            value.copy_(torch.randn_like(value))
    torch.save(checkpoint, best(output))
    return data, output


SEGMENTATION = ("task=segmentation", "data=voc_format", *TINY[:-1], "task.pictures=0")
SEGMENTATION += ("head.channels=16", "recipe.schedule.warmup_steps=0")


@pytest.mark.parametrize("evaluation", ["stretch", "keep_aspect", "windows"])
def test_masks_are_those_of_the_evaluation(evaluation, segmenter, tmp_path, monkeypatch):
    data, folder = segmenter
    ckpt = changed(folder, tmp_path / "it.ckpt", evaluation=evaluation)
    found = []
    step = SegmentationTask.validation_step

    def watched(task, batch, batch_idx):
        outputs = step(task, batch, batch_idx)
        found.extend(outputs["classes"])
        return outputs

    monkeypatch.setattr(SegmentationTask, "validation_step", watched)
    settings = [f"data.evaluation={evaluation}", "trainer.limit_val_batches=1.0"]
    run([*SEGMENTATION, "action=test", f"data.root={data}", f"ckpt={ckpt}", *settings], tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in VOC_VAL:
        shutil.copy(image_path(data, name), folder)
    output = tmp_path / "predict"
    results, rows = predict(ckpt, folder, output)
    assert results["files"] == ["predictions.json", "masks", "overlays"]
    assert len(rows) == len(found) == len(VOC_VAL)
    classes = set()
    for (name, size), expected, row in zip(VOC_VAL.items(), found, rows, strict=True):
        assert row["mask"] == f"masks/{name}.png"
        mask = read_mask(output / row["mask"])
        assert mask.shape == size
        assert (mask != expected.numpy()).mean() < 1e-3  # rounding, other in other batches
        assert sum(row["classes"].values()) == pytest.approx(1)
        assert cv2.imread(str(output / row["overlay"])).shape[1] <= 480
        with PIL.Image.open(output / row["mask"]) as file:
            assert file.mode == "P"
        classes |= set(row["classes"])
    assert len(classes) > 1


def test_python_says_the_same(trained, detector, segmenter, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), photo(number))
    path = folder / "1.png"
    model = parcnet_train.load(best(trained[0]))
    _, rows = predict(best(trained[0]), folder, tmp_path / "classes", "predict.batch_size=1")
    found = model.predict(path, top=3)
    assert isinstance(found, Classified)
    expected = rows[1]["predictions"][:3]
    assert found.probabilities == [each["probability"] for each in expected]
    assert found.names == [each["class"] for each in expected]
    with PIL.Image.open(path) as image:
        assert model.predict(image, top=3) == model.predict(np.array(image), top=3) == found
    found = parcnet_train.load(best(detector[1])).predict(str(path), score_threshold=0.01)
    assert isinstance(found, Detected)
    assert found.size == (30, 40)
    assert found.boxes.max(axis=0)[2] <= 40
    assert len(found.names) == len(found.labels) > 0
    found = parcnet_train.load(best(segmenter[1])).predict(path)
    assert isinstance(found, Segmented)
    assert found.mask.shape == (30, 40)
    with pytest.raises(UnreadableError, match=r"gone\.png: No such file"):
        model.predict(folder / "gone.png")


def test_a_model_without_a_checkpoint_knows_no_classes(trained):
    model = parcnet_train.load(best(trained[0]))
    model.predictor = None
    with pytest.raises(
        CheckpointError, match=r"predict: this model is of no checkpoint of a known"
    ):
        model.predict(photo())


def test_faults(trained, tmp_path):
    ckpt, action = f"ckpt={best(trained[0])}", "action=predict"
    _, faults = configure([action])
    assert sorted(faults) == [
        "ckpt has no value; action=predict needs one: last, a checkpoint file, or a run",
        "input has no value; action=predict needs one: allowed are an image, a folder, a pattern "
        "such as 'photos/*.jpg', or - for names on stdin",
    ]
    _, (fault,) = configure([action, ckpt, f"input={tmp_path}/gone"])
    assert fault.startswith(f"input={tmp_path}/gone does not exist; allowed are an image, a folder")
    (tmp_path / "empty").mkdir()
    _, (fault,) = configure([action, ckpt, f"input={tmp_path}/empty"])
    assert "empty: the folder holds no image" in fault
    _, (fault,) = configure([action, ckpt, f"input={tmp_path}/*.jpg"])
    assert "matches the pattern" in fault
    (tmp_path / "a.ckpt").write_text("no checkpoint")
    _, (fault,) = configure([action, f"ckpt={tmp_path}/a.ckpt", "input=-"])
    assert fault == f"ckpt={tmp_path}/a.ckpt cannot be read as a checkpoint of torch"
    _, (fault,) = configure([action, f"ckpt={tmp_path}/gone", "input=-"])
    assert "allowed are `last`, a checkpoint file, or a run directory" in fault
    _, (fault,) = configure(["action=profile", "input=-"])
    assert fault == "input=-: action=profile reads none; leave it out, or add action=predict"
    _, faults = configure([action, ckpt, "input=5", "predict.top=0", "predict.score_threshold=1"])
    assert {fault.partition("=")[0] for fault in faults} == {
        *("input", "predict.top", "predict.score_threshold")
    }
    assert configure([action, f"ckpt={trained[0]}", "input=-", "backbone=mobilevit_xs"])[1] == []


def test_a_foreign_backbone_is_called_where_the_command_line_names_it_too(
    trained, tmp_path, monkeypatch
):
    code = "from parcnet_train.models.backbones.parcnet import ParCNet\nclass Net(ParCNet): pass"
    (tmp_path / "own_networks.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    checkpoint = read_checkpoint(best(trained[0]))
    checkpoint["config"]["backbone"]["_target_"] = "own_networks.Net"
    torch.save(checkpoint, tmp_path / "own.ckpt")
    command = ["action=predict", f"ckpt={tmp_path}/own.ckpt", "input=-"]
    _, (fault,) = configure(command)
    assert "its backbone is own_networks.Net; allowed are classes of parcnet_train. Wh" in fault
    assert fault.endswith("or on the command line that backbone=... or head=...")
    assert configure([*command, "backbone._target_=own_networks.Net"])[1] == []


def test_another_task_is_refused(trained, tmp_path):
    checkpoint = read_checkpoint(best(trained[0]))
    checkpoint["choices"]["task"] = checkpoint["config"]["choices"]["task"] = "depth"
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(
        CheckpointError, match="its task is depth; action=predict knows classificat"
    ):
        predict(tmp_path / "other.ckpt", "-", tmp_path)

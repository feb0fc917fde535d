"""`CocoData`: files, faults reported before a training, and batches."""

import os
import shutil

import numpy as np
import pytest
import torch
from lightning_fabric.utilities.data import _set_sampler_epoch
from PIL import Image

from coco_files import TRAIN, VAL, write_annotations, write_images
from parcnet_train.benchmarks.loader import time_loaders
from parcnet_train.data.batches import PADDING
from parcnet_train.data.detection.module import CocoData
from parcnet_train.data.detection.transforms import DetectionAugmentation
from parcnet_train.data.samplers import MultiScale
from parcnet_train.errors import ConfigError, DataError
from running import configure

CLASSES = ["background", "ant", "bee", "cat"]


def make_data(root, **settings):
    defaults = {"image_size": 64, "batch_size": 2, "num_workers": 0}
    augmentation = settings.pop("augmentation", DetectionAugmentation())
    return CocoData(str(root), augmentation=augmentation, **{**defaults, **settings})


def fitted(root, **settings):
    data = make_data(root, **settings)
    data.setup("fit")
    return data


def test_classes_are_the_background_and_the_categories(coco_folder):
    data = make_data(coco_folder)
    assert data.class_names == CLASSES
    data.check_files("fit")
    data.setup("fit")
    assert (len(data.train_set), len(data.val_set)) == (3, 3)
    assert data.train_set.annotations.class_names == CLASSES
    assert data.val_set.annotations.image_ids.tolist() == [7, 5, 6]


def test_wrong_num_classes_is_refused(coco_folder):
    assert make_data(coco_folder, num_classes=3).class_names == CLASSES
    for action in ("fit", "test"):
        with pytest.raises(DataError) as raised:
            make_data(coco_folder, num_classes=80).check_files(action)
        message = str(raised.value)
        assert message.startswith(f"data.num_classes=80: {coco_folder}/annotations/instances_val")
        assert "has 3 categories" in message
        assert "data.num_classes=null" in message


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (
            [*TRAIN["categories"], {"id": 4, "name": "dog"}],
            "id 4 is 'dog' in the first and absent in the second",
        ),
        (TRAIN["categories"][1:], "id 7 is absent in the first and 'bee' in the second"),
        (
            [*TRAIN["categories"][1:], {"id": 7, "name": "wasp"}],
            "id 7 is 'wasp' in the first and 'bee' in the second",
        ),
    ],
)
def test_both_sets_must_have_the_same_categories(coco_folder, categories, message):
    entries = [entry for entry in TRAIN["annotations"] if entry["category_id"] != 7]
    document = {**TRAIN, "categories": categories, "annotations": entries}
    file = write_annotations(coco_folder, "train", document)
    for look in (lambda data: data.check_files("fit"), lambda data: data.setup("fit")):
        with pytest.raises(DataError) as raised:
            look(make_data(coco_folder))
        assert str(raised.value).startswith(f"{file} and {file.parent}/instances_val2017.json have")
        assert message in str(raised.value)


@pytest.mark.parametrize("split", ["train", "val"])
def test_missing_image_is_reported_before_anything_is_read(coco_folder, split):
    folder = coco_folder / f"{split}2017"
    for name in ("c.png", "d.png") if split == "train" else ("f.png", "g.png"):
        (folder / name).unlink()
    first, count = ("c.png", 4) if split == "train" else ("f.png", 3)
    with pytest.raises(DataError) as raised:
        make_data(coco_folder).check_files("fit")
    message = str(raised.value)
    assert message.startswith(f"{folder}/{first} does not exist; 2 of {count} images ")
    assert "data.root" in message


def test_image_names_may_contain_folders(coco_folder):
    entries = [{**entry, "file_name": f"x/{entry['file_name']}"} for entry in VAL["images"]]
    write_annotations(coco_folder, "val", {**VAL, "images": entries})
    with pytest.raises(DataError, match=r"val2017/x/e\.png does not exist.*; 3 of 3 images"):
        make_data(coco_folder).check_files("test")
    files = list((coco_folder / "val2017").iterdir())
    (coco_folder / "val2017" / "x").mkdir()
    for file in files:
        file.rename(file.parent / "x" / file.name)
    make_data(coco_folder).check_files("test")


@pytest.mark.parametrize("action", ["fit", "check"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_some_images_are_read_before_training(coco_folder, action, split):
    name = "b.jpg" if split == "train" else "f.png"
    file = coco_folder / f"{split}2017" / name
    turned, size = Image.Exif(), (30, 50) if split == "train" else (45, 70)
    turned[0x0112] = 6  # rotated clockwise when displayed
    Image.new("RGB", size).save(file, exif=turned)
    (fault,) = faults_of(coco_folder, f"action={action}")
    assert f"{split}2017/{name} has {size[1]}x{size[0]} pixels" in fault
    assert f"has {size[0]}x{size[1]}" in fault
    assert "EXIF" in fault
    file.write_bytes(b"nothing")
    (fault,) = faults_of(coco_folder, f"action={action}")
    assert f"{split}2017/{name} cannot be read as an image" in fault
    assert faults_of(coco_folder, f"action={action}", "data.on_error=skip") == []


@pytest.mark.parametrize("action", ["fit", "check"])
def test_training_without_objects_is_refused(coco_folder, action):
    crowds = [{**entry, "iscrowd": 1} for entry in TRAIN["annotations"]]
    for entries in (crowds, []):
        write_annotations(coco_folder, "train", {**TRAIN, "annotations": entries})
        (fault,) = faults_of(coco_folder, f"action={action}")
        assert "train2017" in fault
        assert "object to learn" in fault or "no image with a box" in fault
        assert faults_of(coco_folder, "action=test", "ckpt=x.ckpt") != [fault]


def test_message_about_missing_image_suggests_similar_name(coco_folder):
    entries = [{**entry, "file_name": f"val2017\\{entry['file_name']}"} for entry in VAL["images"]]
    write_annotations(coco_folder, "val", {**VAL, "images": entries})
    with pytest.raises(DataError, match=r"does not exist.*but .*val2017/e\.png.*3 of 3"):
        make_data(coco_folder).check_files("test")
    shutil.move(coco_folder / "val2017", coco_folder / "Val2017")
    with pytest.raises(DataError, match=r"val2017 does not exist, but .*/Val2017"):
        make_data(coco_folder).check_files("test")


def test_each_folder_is_listed_only_once(coco_folder, monkeypatch):
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
    make_data(coco_folder).check_files("fit")
    assert listed == [coco_folder / "val2017", coco_folder / "train2017"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_missing_folder_is_reported(coco_folder, split):
    shutil.rmtree(coco_folder / f"{split}2017")
    message = (
        rf"data\.root: .*{split}2017 does not exist; expected a folder of images.*{split}_images"
    )
    with pytest.raises(DataError, match=message):
        make_data(coco_folder).check_files("fit")


@pytest.mark.parametrize("split", ["train", "val"])
def test_missing_annotations_are_reported(coco_folder, split):
    (coco_folder / "annotations" / f"instances_{split}2017.json").unlink()
    with pytest.raises(DataError, match=rf"{split}2017\.json cannot be read \(No such file"):
        make_data(coco_folder).check_files("fit")


def test_evaluation_needs_no_training_set(coco_folder):
    shutil.rmtree(coco_folder / "train2017")
    (coco_folder / "annotations" / "instances_train2017.json").unlink()
    data = make_data(coco_folder)
    assert data.class_names == CLASSES
    data.check_files("test")
    data.setup("validate")
    assert len(data.val_set) == 3


@pytest.mark.parametrize("name", ["a.xml", "a.txt"])
def test_files_of_voc_are_named_if_those_of_coco_are_missing(tmp_path, name):
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / name).touch()
    with pytest.raises(DataError) as raised:
        make_data(tmp_path).check_files("fit")
    words = f"action=prepare prepare.source=voc_xml prepare.input={tmp_path} prepare.output=READY"
    assert (words in str(raised.value)) == (name == "a.xml")


def test_benchmark_needs_no_validation_set(coco_folder):
    shutil.rmtree(coco_folder / "val2017")
    (coco_folder / "annotations" / "instances_val2017.json").unlink()
    data = make_data(coco_folder)
    assert data.class_names == CLASSES
    data.check_files("benchmark")
    assert len(data.make_train_set()) == 3


def test_folders_and_files_can_be_renamed(coco_folder):
    (coco_folder / "train2017").rename(coco_folder / "images")
    (coco_folder / "annotations" / "instances_train2017.json").rename(coco_folder / "boxes.json")
    data = make_data(coco_folder, train_images="images", train_annotations="boxes.json")
    data.check_files("fit")
    data.setup("fit")
    assert len(list(data.train_dataloader())) == 2


def test_validation_has_every_image_once_and_is_padded(coco_folder):
    first, second = fitted(coco_folder).val_dataloader()
    assert [first.samples.tolist(), second.samples.tolist()] == [[0, 1], [2, PADDING]]
    assert first.images.shape == second.images.shape == (2, 3, 64, 64)
    # The crowd of the first image is left out; the second has one box; the third has none.
    scales = np.array([[64 / 70, 64 / 45], [64 / 45, 64 / 70]])
    boxes = np.array([[10, 10, 30, 30], [1, 2, 21, 32]]) * np.tile(scales, 2)
    assert np.allclose(first.boxes, boxes[:, None])
    assert first.labels.tolist() == [[1], [3]]
    assert second.labels.tolist() == [[-1], [-1]]
    assert np.allclose(first.placements, np.concatenate([scales, np.zeros((2, 2))], axis=1))


def test_letterbox_keeps_the_aspect_ratio(coco_folder):
    batch, _ = fitted(coco_folder, keep_aspect=True, image_size=(70, 90)).val_dataloader()
    assert batch.images.shape == (2, 3, 70, 90)
    scale = 90 / 70
    rows = round(45 * scale)
    assert np.allclose(batch.placements[0], [scale, rows / 45, 0, (70 - rows) // 2])
    assert np.allclose(batch.placements[1], [1, 1, 22, 0])


def test_epochs_differ_and_are_reproducible(coco_folder):
    def epoch(number, seed=0):
        loader = fitted(coco_folder, batch_size=3, seed=seed).train_dataloader()
        _set_sampler_epoch(loader, number)
        (batch,) = loader
        return batch

    assert all(map(torch.equal, epoch(0), epoch(0)))
    for other in (epoch(1), epoch(0, seed=1)):
        assert other.images.shape == (3, 3, 64, 64)
        assert not torch.equal(other.images, epoch(0).images)


def test_batches_do_not_depend_on_workers(coco_folder):
    alone = list(fitted(coco_folder).train_dataloader())
    data = fitted(coco_folder, num_workers=1)
    for expected, batch in zip(alone, data.train_dataloader(), strict=True):
        assert all(map(torch.equal, expected, batch))
    data.end_workers()


def test_multi_scale_batches_vary_in_size(coco_folder):
    scales = MultiScale(smallest=0.5, largest=1.5, count=3)
    data = fitted(coco_folder, batch_size=1, multi_scale=scales)
    loader, sizes = data.train_dataloader(), set()
    for epoch in range(6):
        _set_sampler_epoch(loader, epoch)
        sizes |= {batch.images.shape[2:] for batch in loader}
    assert sizes == {(32, 32), (64, 64), (96, 96)}


def test_loader_benchmark_refuses_detection_data(coco_folder):
    with pytest.raises(ConfigError, match=r"benchmark\.target=loader: .*folders of images"):
        time_loaders(make_data(coco_folder), repeats=1)


def faults_of(root, *overrides):
    return configure(["task=detection", "data=coco_format", f"data.root={root}", *overrides])[1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipe.augmentation.crop=0.5", "augmentation.crop=0.5: expected true or false"),
        ("recipe.augmentation.photometric=1", "photometric=1: expected true or false"),
        ("recipe.augmentation.expand=2", "expand=2: expected a number from 0 to 1"),
        ("data.keep_aspect=gray", "data.keep_aspect=gray: expected true or false"),
    ],
)
def test_invalid_settings_are_refused(coco_folder, override, message):
    (fault,) = faults_of(coco_folder, override)
    assert message in fault


def test_configuration_check_reports_faults_of_the_files(coco_folder):
    assert faults_of(coco_folder) == []
    (coco_folder / "val2017" / "e.png").unlink()
    (fault,) = faults_of(coco_folder)
    assert "e.png does not exist; 1 of 3 images" in fault
    (fault,) = configure(["task=detection", "data=coco", f"data.root={coco_folder}"])[1]
    assert "data.num_classes=80: " in fault


@pytest.mark.parametrize(
    ("task", "data", "of"),
    [
        ("classification", "coco_format", "detection"),
        ("detection", "imagefolder", "classification"),
        ("detection", "demo", "classification"),
    ],
)
def test_data_of_another_task_is_refused(coco_folder, task, data, of):
    faults = configure([f"task={task}", f"data={data}", f"data.root={coco_folder}"])[1]
    assert faults[-1] == f"data={data}: it is for task={of}, not for task={task}"
    # Demonstration data changes some of the recipe.
    assert all(fault.startswith("recipe.augmentation.") for fault in faults[:-1])


def test_test_split_is_evaluated_instead_of_validation_set(coco_folder):
    document = {**VAL, "images": VAL["images"][:2]}
    write_annotations(coco_folder, "test", document)
    write_images(coco_folder, "test", document)
    data = make_data(coco_folder, split="test")
    data.check_files("test")
    data.setup("validate")
    assert data.val_set.folder == coco_folder / "test2017"
    assert data.val_set.annotations.image_ids.tolist() == [7, 5]
    assert data.fingerprint()["test_images"] == 2
    (coco_folder / "annotations" / "instances_test2017.json").unlink()
    with pytest.raises(
        DataError, match=r"instances_test2017\.json cannot be read .*data\.test_ann"
    ):
        make_data(coco_folder, split="test").check_files("test")


def test_classes_of_test_split_are_those_of_the_training(coco_folder):
    # A supercategory is a class since the training set uses it, though the test set does not.
    categories = [*TRAIN["categories"], {"id": 1, "name": "insect"}]
    categories = [{**each, "supercategory": "insect"} for each in categories]
    box = {"id": 99, "image_id": 30, "category_id": 1, "bbox": [5, 6, 30, 20]}
    train = {**TRAIN, "annotations": [*TRAIN["annotations"], box], "categories": categories}
    for split, document in (("train", train), ("val", VAL), ("test", VAL)):
        write_annotations(coco_folder, split, {**document, "categories": categories})
    names = make_data(coco_folder).class_names
    assert "insect" in names
    assert make_data(coco_folder, split="test").class_names == names

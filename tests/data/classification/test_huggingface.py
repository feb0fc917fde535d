"""Data sets of Hugging Face on this disk: the same batches as class folders, and every refusal."""

import json
import re
import shutil
import sys

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import torch

from parcnet_train.data.classification.huggingface import HuggingFaceData
from parcnet_train.data.classification.module import ImageFolderData
from parcnet_train.data.classification.transforms import Augmentation
from parcnet_train.errors import ConfigError, DataError
from running import TINY, configure, run

SETTINGS = {
    "image_size": 32,
    "batch_size": 2,
    "augmentation": Augmentation(),
    "num_workers": 0,
    "seed": 3,
}
NAMES = ["ant", "bee", "cat"]
FEATURES = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A cache of its own, and no network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("no network is needed"))


def rows_of(folder, features=FEATURES):
    """The files of class folders as rows, in the order in which the folders are read."""
    files = sorted(folder.glob("*/*"))
    return datasets.Dataset.from_dict(
        {
            "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
            "label": [NAMES.index(file.parent.name) for file in files],
        },
        features,
    )


def saved(rows, root):
    datasets.DatasetDict(rows).save_to_disk(str(root))


def parquet(pattern):
    def write(rows, root):
        for split, table in rows.items():
            for number in range(2):
                file = root / pattern.format(split=split, number=number)
                file.parent.mkdir(parents=True, exist_ok=True)
                table.shard(2, number, contiguous=True).to_parquet(str(file))

    return write


LAYOUTS = {
    "save_to_disk": saved,
    "hub": parquet("data/{split}-{number:05d}-of-00002.parquet"),
    "flat": parquet("{split}-{number}.parquet"),
    "folders": parquet("{split}/{number:04d}.parquet"),
}


@pytest.fixture
def root(image_folder, tmp_path):
    rows = {"train": rows_of(image_folder / "train"), "validation": rows_of(image_folder / "val")}
    saved(rows, tmp_path / "saved")
    return tmp_path / "saved"


def test_a_split_with_a_similar_name_is_named(root):
    with pytest.raises(DataError, match=r"has no split Train, but .*/saved/train exists"):
        HuggingFaceData(str(root), train_dir="Train", **SETTINGS).check_files("fit")


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_one_split_for_training_and_validation_is_reported(image_folder, tmp_path, caplog, write):
    write({"train": rows_of(image_folder / "train")}, tmp_path / "copy")
    HuggingFaceData(str(tmp_path / "copy"), val_dir="train", **SETTINGS).check_files("fit")
    (line,) = caplog.messages
    assert "data.train_dir=train and data.val_dir=train have the same rows" in line
    assert str(tmp_path / "copy") in line


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_batches_are_those_of_class_folders(image_folder, tmp_path, caplog, write):
    rows = {"train": rows_of(image_folder / "train"), "validation": rows_of(image_folder / "val")}
    write(rows, tmp_path / "copy")
    ours = HuggingFaceData(str(tmp_path / "copy"), **SETTINGS)
    folders = ImageFolderData(str(image_folder), **SETTINGS)
    assert ours.class_names == folders.class_names == NAMES
    ours.check_files("fit")
    assert caplog.messages == []
    for data in (ours, folders):
        data.setup("fit")
    for name in ("train_dataloader", "val_dataloader"):
        batches, expected = list(getattr(ours, name)()), list(getattr(folders, name)())
        assert len(batches) == len(expected) > 2
        for batch, other in zip(batches, expected, strict=True):
            assert all(map(torch.equal, batch, other))


def test_batches_of_workers_are_the_same(root):
    alone, shared = (HuggingFaceData(str(root), **{**SETTINGS, "num_workers": n}) for n in (0, 1))
    batches = []
    for data in (alone, shared):
        data.setup("fit")
        batches.append(list(data.train_dataloader()))
    for first, second in zip(*batches, strict=True):
        assert all(map(torch.equal, first, second))


def test_a_run_learns_from_it(root, tmp_path):
    overrides = ["data=huggingface", f"data.root={root}", "recipe.batch_size=3"]
    results = run([*TINY, *overrides], tmp_path / "run")
    assert (results["steps"], results["data"]) == (2, "huggingface")
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["class_names"] == NAMES


def test_images_that_are_named_by_a_path_are_read(image_folder, tmp_path):
    files = sorted((image_folder / "val").glob("*/*"))
    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": None, "path": str(file)} for file in files], "label": [0] * 6},
        FEATURES,
    )
    parquet("data/{split}-{number}.parquet")({"validation": rows}, tmp_path / "paths")
    data = HuggingFaceData(str(tmp_path / "paths"), **SETTINGS)
    data.setup("validate")
    folders = ImageFolderData(str(image_folder), **SETTINGS)
    folders.setup("validate")
    pairs = zip(data.val_dataloader(), folders.val_dataloader(), strict=True)
    assert all(torch.equal(first.images, second.images) for first, second in pairs)


def test_check_writes_no_table(image_folder, tmp_path):
    rows = {"train": rows_of(image_folder / "train"), "validation": rows_of(image_folder / "val")}
    LAYOUTS["hub"](rows, tmp_path / "copy")
    assert faults_of(tmp_path / "copy") == []
    assert not (tmp_path / "cache").exists()


def faults_of(root, *overrides):
    return configure(["data=huggingface", f"data.root={root}", *overrides])[1]


def test_without_the_package_the_way_out_is_named(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (fault,) = faults_of(root)
    assert fault == (
        "data=huggingface needs the package datasets, which is not installed: pip install datasets"
    )
    with pytest.raises(ConfigError, match="pip install datasets"):
        HuggingFaceData(str(root), **SETTINGS).setup("fit")


def test_splits_that_are_not_there(root, tmp_path):
    (fault,) = faults_of(root, "data.val_dir=test")
    assert fault == (
        f"data.root: {root} has no split test; allowed is a folder that DatasetDict.save_to_disk "
        "wrote, or one with test-*.parquet, data/test-*.parquet or test/*.parquet; set data.root, "
        "data.train_dir, data.val_dir"
    )
    with pytest.raises(DataError, match="nowhere has no split train; allowed is a folder that"):
        HuggingFaceData(str(tmp_path / "nowhere"), **SETTINGS).check_files("fit")
    alone = r"train has no split train \(it holds a Dataset; a DatasetDict has splits\); allowed"
    with pytest.raises(DataError, match=alone):
        HuggingFaceData(str(root / "train"), **SETTINGS).check_files("fit")
    shutil.rmtree(root / "train")
    data = HuggingFaceData(str(root), **SETTINGS)
    data.check_files("test")
    assert data.class_names == NAMES


@pytest.mark.parametrize(
    ("key", "column", "message"),
    [
        ("image_column", "img", "has no such column; allowed are image, label"),
        ("label_column", "fine", "has no such column; allowed are image, label"),
        (
            *("image_column", "label"),
            "has ClassLabel there; allowed is a column of images (datasets.Image)",
        ),
        (
            *("label_column", "image"),
            "has Image there, which names no classes; allowed is a ClassLabel: "
            "class_encode_column makes one",
        ),
    ],
)
def test_columns_that_are_not_there_or_of_another_kind(root, key, column, message):
    data = HuggingFaceData(str(root), **SETTINGS, **{key: column})
    with pytest.raises(DataError) as caught:
        data.check_files("fit")
    assert str(caught.value) == f"data.{key}={column}: {root}/train {message}"


def test_classes_are_compared(root, image_folder, tmp_path):
    assert "data.num_classes=1000, but " in faults_of(root, "data.num_classes=1000")[0]
    other = FEATURES.copy()
    other["label"] = datasets.ClassLabel(names=NAMES[::-1])
    saved(
        {
            "train": rows_of(image_folder / "train"),
            "validation": rows_of(image_folder / "val", other),
        },
        tmp_path / "other",
    )
    assert faults_of(tmp_path / "other") == [
        f"data.root: {tmp_path}/other/validation has other classes than the training set, or has "
        "them in another order"
    ]


def test_rows_without_a_class(image_folder, tmp_path):
    rows = rows_of(image_folder / "val")
    hidden = datasets.Dataset.from_dict(
        {"image": rows.cast_column("image", datasets.Image(decode=False))["image"][:]}
        | {"label": [-1] * len(rows)},
        FEATURES,
    )
    saved({"test": hidden}, tmp_path / "hidden")
    data = HuggingFaceData(str(tmp_path / "hidden"), **SETTINGS, val_dir="test")
    with pytest.raises(DataError, match=r"hidden/test has rows without a class, as sets for tests"):
        data.setup("validate")


def test_unreadable_images_are_named_or_left_out(image_folder, tmp_path):
    rows = rows_of(image_folder / "val")
    files = rows.cast_column("image", datasets.Image(decode=False))["image"][:]
    files[1]["bytes"], files[2] = b"no image", None
    broken = datasets.Dataset.from_dict({"image": files, "label": rows["label"][:]}, FEATURES)
    saved({"validation": broken}, tmp_path / "broken")
    data = HuggingFaceData(str(tmp_path / "broken"), **SETTINGS)
    data.setup("validate")
    place = re.escape(f"{tmp_path}/broken/validation row 1 cannot be read as an image")
    with pytest.raises(DataError, match=place):
        list(data.val_dataloader())
    data = HuggingFaceData(str(tmp_path / "broken"), **SETTINGS, max_pixels=9)
    data.setup("validate")
    with pytest.raises(DataError, match=r"validation row 0 .*data\.max_pixels=9"):
        list(data.val_dataloader())
    data = HuggingFaceData(str(tmp_path / "broken"), **SETTINGS, on_error="skip")
    data.setup("validate")
    assert [batch.skipped.item() for batch in data.val_dataloader()] == [1, 1, 0]


def test_files_that_are_no_tables(root, tmp_path):
    (tmp_path / "copy" / "data").mkdir(parents=True)
    (tmp_path / "copy" / "data" / "train-0.parquet").write_bytes(b"PAR1 or not")
    (fault,) = faults_of(tmp_path / "copy")
    assert fault.startswith(f"data.root: {tmp_path}/copy/data/train-0.parquet cannot be read: ")
    assert fault.endswith("; copy the data set again")
    for file in (root / "train").glob("*.arrow"):
        file.write_bytes(b"nothing")
    (fault,) = faults_of(root)
    assert fault.startswith(f"data.root: {root}/train cannot be read: ")


def test_the_labels_are_whole_numbers(root):
    data = HuggingFaceData(str(root), **SETTINGS)
    data.setup("fit")
    assert data.train_set.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.train_set.labels.dtype == np.int64


def rewritten(rows, root, change):
    """Rows as the Parquet file of a split, its table changed without a check."""
    table = change(rows.data.table)
    (root / "data").mkdir(parents=True)
    pyarrow.parquet.write_table(table, root / "data" / "validation-0.parquet")
    return HuggingFaceData(str(root), **SETTINGS)


def test_labels_that_no_class_has(image_folder, tmp_path):
    def change(table):
        labels = pyarrow.array([0, 1, 7, 2, 1, 0])
        return table.set_column(1, "label", labels).replace_schema_metadata(table.schema.metadata)

    data = rewritten(rows_of(image_folder / "val"), tmp_path / "copy", change)
    message = r"label: .*/validation has class 7 there, and names 3; copy the data set again"
    with pytest.raises(DataError, match=message):
        data.setup("validate")


def test_features_of_another_version(image_folder, tmp_path):
    def change(table):
        features = {"image": {"_type": "Hologram"}}
        metadata = json.dumps({"info": {"features": features}})
        return table.replace_schema_metadata({"huggingface": metadata})

    data = rewritten(rows_of(image_folder / "val"), tmp_path / "copy", change)
    with pytest.raises(DataError, match=r"validation-0\.parquet cannot be read: .*'Hologram'"):
        data.check_files("test")

"""Local Hugging Face data sets give the same batches as class folders; faults are refused."""

import re
import sys

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import torch

from huggingface_rows import (
    FEATURES,
    NAMES,
    SETTINGS,
    faults_of,
    parquet,
    rewritten,
    rows_of,
    saved,
)
from parcnet_train.data.classification.huggingface import HuggingFaceData
from parcnet_train.data.classification.module import ImageFolderData
from parcnet_train.errors import ConfigError, DataError
from running import TINY, run

LAYOUTS = {
    "save_to_disk": saved,
    "hub": parquet("data/{split}-{number:05d}-of-00002.parquet"),
    "flat": parquet("{split}-{number}.parquet"),
    "folders": parquet("{split}/{number:04d}.parquet"),
}

pytestmark = pytest.mark.usefixtures("alone")


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_same_split_for_training_and_validation_gives_a_warning(
    image_folder, tmp_path, caplog, write
):
    write({"train": rows_of(image_folder / "train")}, tmp_path / "copy")
    HuggingFaceData(str(tmp_path / "copy"), val_dir="train", **SETTINGS).check_files("fit")
    (line,) = caplog.messages
    assert "data.train_dir=train and data.val_dir=train contain the same rows" in line
    assert str(tmp_path / "copy") in line


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_batches_match_those_of_class_folders(image_folder, tmp_path, caplog, write):
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


def test_batches_do_not_depend_on_workers(root):
    alone, shared = (HuggingFaceData(str(root), **{**SETTINGS, "num_workers": n}) for n in (0, 1))
    batches = []
    for data in (alone, shared):
        data.setup("fit")
        batches.append(list(data.train_dataloader()))
    for first, second in zip(*batches, strict=True):
        assert all(map(torch.equal, first, second))


def test_training_on_huggingface_data_learns(root, tmp_path):
    overrides = ["data=huggingface", f"data.root={root}", "recipe.batch_size=3"]
    results = run([*TINY, *overrides], tmp_path / "run")
    assert (results["steps"], results["data"]) == (2, "huggingface")
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["class_names"] == NAMES


def test_images_stored_as_paths_are_read(image_folder, tmp_path):
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


def test_check_writes_no_cache(image_folder, tmp_path):
    rows = {"train": rows_of(image_folder / "train"), "validation": rows_of(image_folder / "val")}
    LAYOUTS["hub"](rows, tmp_path / "copy")
    assert faults_of(tmp_path / "copy") == []
    assert not (tmp_path / "cache").exists()


def test_missing_package_is_reported_with_a_fix(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (fault,) = faults_of(root)
    assert fault.startswith("data=huggingface: ")
    assert "pip install datasets" in fault
    with pytest.raises(ConfigError, match="pip install datasets"):
        HuggingFaceData(str(root), **SETTINGS).setup("fit")


def test_rows_without_a_class_are_refused(image_folder, tmp_path):
    rows = rows_of(image_folder / "val")
    hidden = datasets.Dataset.from_dict(
        {"image": rows.cast_column("image", datasets.Image(decode=False))["image"][:]}
        | {"label": [-1] * len(rows)},
        FEATURES,
    )
    saved({"test": hidden}, tmp_path / "hidden")
    data = HuggingFaceData(str(tmp_path / "hidden"), **SETTINGS, val_dir="test")
    with pytest.raises(DataError, match=r"hidden/test has rows without a class.*data\.val_dir"):
        data.setup("validate")


def test_split_without_rows_is_one_line(image_folder, tmp_path):
    saved({"validation": rows_of(image_folder / "val").select([])}, tmp_path / "empty")
    data = HuggingFaceData(str(tmp_path / "empty"), **SETTINGS)
    with pytest.raises(DataError, match=r"^data\.root: .*empty/validation cannot be read"):
        data.setup("validate")


def test_unreadable_images_raise_or_are_skipped(image_folder, tmp_path):
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


def test_labels_are_integers(root):
    data = HuggingFaceData(str(root), **SETTINGS)
    data.setup("fit")
    assert data.train_set.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.train_set.labels.dtype == np.int64


def test_labels_without_a_class_are_refused(image_folder, tmp_path):
    def change(table):
        labels = pyarrow.array([0, 1, 7, 2, 1, 0])
        return table.set_column(1, "label", labels).replace_schema_metadata(table.schema.metadata)

    data = rewritten(rows_of(image_folder / "val"), tmp_path / "copy", change)
    message = r"data\.label_column=label: .*/validation contains the class index 7, but has names"
    with pytest.raises(DataError, match=message):
        data.setup("validate")


def test_test_split_is_evaluated_instead_of_validation_set(image_folder, tmp_path):
    rows = {
        "train": rows_of(image_folder / "train"),
        "validation": rows_of(image_folder / "val"),
        "test": rows_of(image_folder / "val").select(range(5)),
    }
    saved(rows, tmp_path / "saved")
    data = HuggingFaceData(str(tmp_path / "saved"), **SETTINGS, split="test")
    data.check_files("test")
    data.setup("validate")
    assert len(data.val_set) == 5
    other = HuggingFaceData(str(tmp_path / "saved"), **SETTINGS, split="test", test_dir="holdout")
    with pytest.raises(DataError, match=r"no split holdout.*data\.test_dir"):
        other.check_files("test")

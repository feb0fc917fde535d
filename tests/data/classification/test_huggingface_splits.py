"""Splits and columns of Hugging Face data sets."""

import json
import shutil

import datasets
import pytest

from huggingface_rows import (
    FEATURES,
    NAMES,
    SETTINGS,
    faults_of,
    rewritten,
    rows_of,
    saved,
)
from parcnet_train.data.classification.huggingface import HuggingFaceData
from parcnet_train.errors import DataError

pytestmark = pytest.mark.usefixtures("alone")


def test_message_about_missing_split_suggests_similar_name(root):
    with pytest.raises(DataError, match=r"has no split Train, but .*/saved/train exists"):
        HuggingFaceData(str(root), train_dir="Train", **SETTINGS).check_files("fit")


def test_missing_splits_are_refused(root, tmp_path):
    (fault,) = faults_of(root, "data.val_dir=test")
    assert fault.startswith(f"data.root: {root} has no split test; expected ")
    assert "test-*.parquet, data/test-*.parquet or test/*.parquet" in fault
    assert fault.endswith("data.root, data.train_dir, data.val_dir or data.test_dir")
    with pytest.raises(DataError, match="nowhere has no split train; expected "):
        HuggingFaceData(str(tmp_path / "nowhere"), **SETTINGS).check_files("fit")
    alone = r"train has no split train \(.* Dataset; .* DatasetDict has splits\); expected"
    with pytest.raises(DataError, match=alone):
        HuggingFaceData(str(root / "train"), **SETTINGS).check_files("fit")
    shutil.rmtree(root / "train")
    data = HuggingFaceData(str(root), **SETTINGS)
    data.check_files("test")
    assert data.class_names == NAMES


@pytest.mark.parametrize(
    ("key", "column", "message"),
    [
        ("image_column", "img", "has no such column; expected one of image, label"),
        ("label_column", "fine", "has no such column; expected one of image, label"),
        (
            "image_column",
            "label",
            "has the type ClassLabel; expected images (datasets.Image)",
        ),
        (
            "label_column",
            "image",
            "has the type Image, which has no class names; expected a ClassLabel",
        ),
    ],
)
def test_missing_columns_and_wrong_column_types_are_refused(root, key, column, message):
    data = HuggingFaceData(str(root), **SETTINGS, **{key: column})
    with pytest.raises(DataError) as caught:
        data.check_files("fit")
    assert str(caught.value).startswith(f"data.{key}={column}: ")
    assert f"{root}/train " in str(caught.value)
    assert message in str(caught.value)


def test_splits_with_different_classes_are_refused(root, image_folder, tmp_path):
    assert "data.num_classes=1000: " in faults_of(root, "data.num_classes=1000")[0]
    other = FEATURES.copy()
    other["label"] = datasets.ClassLabel(names=NAMES[::-1])
    saved(
        {
            "train": rows_of(image_folder / "train"),
            "validation": rows_of(image_folder / "val", other),
        },
        tmp_path / "other",
    )
    (fault,) = faults_of(tmp_path / "other")
    assert fault.startswith(f"data.root: {tmp_path}/other/validation ")
    assert "classes of the training set" in fault


def test_files_that_are_not_tables_are_refused(root, tmp_path):
    (tmp_path / "copy" / "data").mkdir(parents=True)
    (tmp_path / "copy" / "data" / "train-0.parquet").write_bytes(b"PAR1 or not")
    (fault,) = faults_of(tmp_path / "copy")
    assert fault.startswith(f"data.root: {tmp_path}/copy/data/train-0.parquet cannot be read (")
    assert fault.endswith("copy the data set again")
    for file in (root / "train").glob("*.arrow"):
        file.write_bytes(b"nothing")
    (fault,) = faults_of(root)
    assert fault.startswith(f"data.root: {root}/train cannot be read (")


def test_unknown_features_are_refused(image_folder, tmp_path):
    def change(table):
        features = {"image": {"_type": "Hologram"}}
        metadata = json.dumps({"info": {"features": features}})
        return table.replace_schema_metadata({"huggingface": metadata})

    data = rewritten(rows_of(image_folder / "val"), tmp_path / "copy", change)
    with pytest.raises(DataError, match=r"validation-0\.parquet cannot be read \(.*'Hologram'"):
        data.check_files("test")

"""Splits and columns of Hugging Face data sets."""

import base64
import json
import os
import pickle
import shutil
import struct

import datasets
import numpy as np
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


class Code:
    """Object that runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def describe(root, features):
    """Replace the features in the metadata of both splits."""
    for file in root.glob("*/dataset_info.json"):
        info = json.loads(file.read_text())
        file.write_text(json.dumps({**info, "features": features}))


def test_code_in_a_data_set_is_not_executed(root, tmp_path):
    proof = tmp_path / "executed"
    script = f"open({str(proof)!r}, 'w').close()"
    for folder in (root, *root.glob("*/")):  # as data sets of the hub once had it
        (folder / f"{folder.name}.py").write_text(script)
    (root / "README.md").write_text("---\ntrust_remote_code: true\n---\n")
    assert faults_of(root) == []
    data = base64.b64encode(pickle.dumps(Code(f"touch {proof}"))).decode()
    for kind in ("Pickle", "os.system"):
        describe(root, {"image": {"_type": kind, "data": data}})
        (fault,) = faults_of(root)
        assert f"cannot be read (Feature type '{kind}' not found." in fault
    assert not proof.exists()


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([1, 2, 3], "is not a text (1)"),
        (["a\x1b[31m", "b", "c"], "has a control character or a line end ('a\\x1b[31m')"),
        (["\ud800", "b", "c"], "is not UTF-8 text"),
        (5, "Please provide names as a list"),
    ],
)
def test_class_names_that_are_no_texts_are_one_line(root, names, reason):
    describe(root, {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}})
    (fault,) = faults_of(root)
    assert fault.startswith("data.")
    assert reason in fault


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b"\xff\xfe"])
def test_damaged_descriptions_of_a_split_are_one_line(root, name, content):
    (root / "train" / name).write_bytes(content)
    (fault,) = faults_of(root)
    assert fault.startswith(f"data.root: {root}/train cannot be read (")


def test_damaged_offsets_of_images_are_one_line(root):
    """Arrow itself would read beyond the end of the file, and the process would end."""
    (file,) = (root / "train").glob("*.arrow")
    rows = datasets.load_from_disk(str(root / "train"))
    images = rows.cast_column("image", datasets.Image(decode=False))["image"]
    offsets = np.cumsum([0, *(len(each["bytes"]) for each in images)]).tolist()
    before = struct.pack(f"<{len(offsets)}i", *offsets)
    content = file.read_bytes()
    assert content.count(before) == 1
    after = struct.pack(f"<{len(offsets)}i", 0, *([2**30] * (len(offsets) - 1)))
    file.unlink()  # not the file that is open
    file.write_bytes(content.replace(before, after))
    data = HuggingFaceData(str(root), **SETTINGS)
    with pytest.raises(DataError, match=r"train cannot be read \(.*offset"):
        data.make_set(data.train_folder, None)

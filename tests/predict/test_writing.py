"""Names and contents of the files that `action=predict` writes."""

import json
from pathlib import Path

import numpy as np
import pytest

from painting import image
from parcnet_train.predict.predictions import Classified, Detected, Segmented
from parcnet_train.predict.writing import Names, writer_of

FOLDERS = {"masks": ".png", "overlays": ".jpg"}


def names_of(paths, output):
    names = Names(paths, output, FOLDERS)
    return [names(path) for path in paths]


def test_output_names_are_unique(tmp_path):
    paths = [
        tmp_path / name for name in ("a/x.jpg", "b/x.jpg", "x.png", "x.jpg", "X.jpg", "x_2.gif")
    ]
    found = names_of(paths, tmp_path / "out")
    assert found[0] == ["masks/a/x.png", "overlays/a/x.jpg"]
    masks = [mask for mask, _ in found]
    assert masks == [
        "masks/a/x.png",
        "masks/b/x.png",
        "masks/x.png",
        "masks/x_2.png",
        "masks/X_3.png",
        "masks/x_2_2.png",
    ]
    assert len({mask.casefold() for mask in masks}) == len(paths)


def test_output_names_are_relative_to_the_common_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [Path("photos/../photos/a/x.jpg"), tmp_path / "photos" / "b" / "y.tar.jpg"]
    masks = [mask for mask, _ in names_of(paths, Path("out"))]
    assert masks == ["masks/a/x.png", "masks/b/y.tar.png"]
    assert names_of([Path("photos/a/x.jpg")], Path("out")) == [["masks/x.png", "overlays/x.jpg"]]


def test_existing_files_are_not_overwritten(tmp_path):
    source = tmp_path / "masks" / "x.png"
    source.parent.mkdir()
    source.write_bytes(b"mine")
    writer = writer_of(checkpoint("segmentation"), [source], tmp_path)
    writer.add(source, Segmented(np.zeros((60, 120), np.uint8), ["none", "cat"]), image())
    writer.finish()
    assert source.read_bytes() == b"mine"
    assert (tmp_path / "masks" / "x_2.png").is_file()


def checkpoint(task, **more):
    return {"choices": {"task": task}, "class_names": ["none", "cat"], **more}


def test_names_that_are_not_utf8_are_kept_in_the_tables(tmp_path):
    path = Path('a,"\udcff.jpg')
    writer = writer_of(checkpoint("classification"), [path], tmp_path)
    writer.add(path, Classified(["cat"], [1], [0.75]), image())
    assert writer.finish() == ["predictions.json", "predictions.csv"]
    (row,) = json.loads((tmp_path / "predictions.json").read_text())
    assert row["file"] == str(path)
    lines = (tmp_path / "predictions.csv").read_bytes().splitlines()
    assert lines == [b"file,rank,class,index,probability", b'"a,""\xff.jpg",1,cat,1,0.75']


@pytest.mark.parametrize(("more", "category"), [({}, 1), ({"category_ids": [-1, 90]}, 90)])
def test_objects_have_the_category_ids_of_the_annotations_if_known(more, category, tmp_path):
    path = tmp_path / "x.jpg"
    boxes = np.array([[1, 2, 4.5, 8]], np.float32)
    found = Detected(["cat"], np.array([1]), np.array([0.5], np.float32), boxes, (60, 120))
    writer = writer_of(checkpoint("detection", **more), [path], tmp_path)
    writer.add(path, found, image())
    assert set(writer.finish()) == {"predictions.json", "images.json", "pictures"}
    assert json.loads((tmp_path / "predictions.json").read_text()) == [
        {"image_id": 1, "category_id": category, "bbox": [1, 2, 3.5, 6], "score": 0.5}
    ]
    document = json.loads((tmp_path / "images.json").read_text())
    assert document["categories"] == [{"id": category, "name": "cat"}]
    (listed,) = document["images"]
    assert listed == {
        "id": 1,
        "file_name": str(path),
        "width": 120,
        "height": 60,
        "picture": "pictures/x.jpg",
    }
    assert (tmp_path / "pictures" / "x.jpg").is_file()

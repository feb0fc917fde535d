"""All data files of any task can be checked before a training."""

import logging
import os

import numpy as np
import pytest
from PIL import Image

from coco_files import VAL, write_annotations
from parcnet_train.data import file_checks
from parcnet_train.data.file_checks import (
    Listed,
    look_at,
    namesakes,
    warn_of_repeats,
    warn_of_shared,
)
from running import configure


def faults_of(*overrides):
    return configure(["action=check", "check.data=full", *overrides])[1]


def test_look_at_yields_results_in_order():
    class Numbers:
        def look(self, sample):
            return sample * 2

    samples = list(range(200, 0, -1))
    seen = list(look_at(Numbers(), samples))
    assert [each.sample for each in seen] == samples
    assert [each.result for each in seen] == [2 * sample for sample in samples]


def test_full_check_finds_faults_in_image_folders(image_folder):
    arguments = "data=imagefolder", f"data.root={image_folder}"
    assert faults_of(*arguments) == []
    paths = [image_folder / "train" / "ant" / "0.png", image_folder / "val" / "bee" / "1.jpg"]
    for path in paths:
        path.write_bytes(b"nothing")
    found = faults_of(*arguments, "data.on_error=skip")
    assert [str(path) in fault for path, fault in zip(paths, found, strict=True)] == [True, True]
    assert all("cannot be read as an image" in fault for fault in found)
    assert configure([*arguments, "action=check"])[1] == []


def test_full_check_finds_faults_in_coco_data(coco_folder):
    arguments = "task=detection", "data=coco_format", f"data.root={coco_folder}"
    assert faults_of(*arguments) == []
    (coco_folder / "train2017" / "a.png").write_bytes(b"nothing")
    Image.fromarray(np.zeros((45, 71, 3), np.uint8)).save(coco_folder / "val2017" / "e.png")
    other_size, unreadable = faults_of(*arguments)
    assert "train2017/a.png cannot be read as an image" in unreadable
    assert "e.png has 71x45 pixels" in other_size


def test_full_check_finds_faults_in_huggingface_data(huggingface_folder):
    assert faults_of("data=huggingface", f"data.root={huggingface_folder}") == []


def test_full_check_writes_demonstration_data_first(tmp_path):
    arguments = "data=demo", f"data.root={tmp_path / 'digits'}"
    assert configure(["action=check", *arguments])[1] == []
    assert not (tmp_path / "digits").exists()
    assert faults_of(*arguments) == []
    next((tmp_path / "digits" / "val").rglob("*.png")).write_bytes(b"nothing")
    (fault,) = faults_of(*arguments)
    assert "cannot be read as an image" in fault


def test_action_check_needs_both_sets(image_folder):
    """Both sets must exist, as for action=fit."""
    (image_folder / "train").rename(image_folder / "elsewhere")
    (fault,) = configure(["action=check", "data=imagefolder", f"data.root={image_folder}"])[1]
    assert "train does not exist" in fault


def listed_in(folder, contents):
    """Write files and list them."""
    for name, content in contents.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    names = np.array([os.fsencode(name) for name in contents])
    return Listed(folder / "list", folder, names)


def said(caplog, look, *listed):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        look(*listed)
    return [record.getMessage() for record in caplog.records]


def test_images_in_both_sets_give_a_warning(tmp_path, caplog):
    first = listed_in(tmp_path / "a", {"x/1.jpg": b"1", "x/2.jpg": b"2", "y/3.jpg": b"3"})
    second = listed_in(tmp_path / "b", {"x/1.jpg": b"one", "x/2.jpg": b"0", "y/4.jpg": b"3"})
    assert said(caplog, warn_of_shared, first, second) == []
    (tmp_path / "b" / "x" / "2.jpg").write_bytes(b"2")
    (line,) = said(caplog, warn_of_shared, first, second)
    assert f"{first.source} contains 1 of the 2 images of {second.source}" in line
    assert "x/2.jpg" in line


def test_linked_folder_counts_as_the_same_folder(tmp_path, caplog):
    first = listed_in(tmp_path / "a", {"1.jpg": b"1", "2.jpg": b"2", "3.jpg": b"3"})
    (tmp_path / "b").symlink_to(tmp_path / "a")
    second = Listed(tmp_path / "b", tmp_path / "b", first.names[1:])
    (line,) = said(caplog, warn_of_shared, first, second)
    assert f"{first.source} contains 2 of the 2 images of {second.source}" in line
    second = second._replace(names=np.array([b"4.jpg"]))
    assert said(caplog, warn_of_shared, first, second) == []


def test_repeated_images_give_a_warning(tmp_path, caplog):
    contents = {"x/1.jpg": b"1", "y/1.jpg": b"2", "x/2.jpg": b"3", "z/2.jpg": b"4", "3.jpg": b"1"}
    listed = listed_in(tmp_path, contents)
    assert said(caplog, warn_of_repeats, listed) == []
    twice = listed._replace(names=np.concatenate([listed.names, listed.names[2:4]]))
    (line,) = said(caplog, warn_of_repeats, twice)
    assert "contains 2 of its 5 images more than once (first: x/2.jpg)" in line
    (tmp_path / "z" / "2.jpg").write_bytes(b"3")
    (line,) = said(caplog, warn_of_repeats, listed)
    assert "1 among 4 compared files" in line
    assert "x/2.jpg and z/2.jpg" in line


def test_only_some_of_many_namesakes_are_compared(monkeypatch):
    monkeypatch.setattr(file_checks, "SIZED", 12)
    names = [b"%d/%d.jpg" % (folder, number) for folder in range(3) for number in range(50)]
    groups = namesakes(np.array([*names, b"4/alone.jpg"]))
    assert [len(group) for group in groups] == [3] * 4
    assert groups[0] == ["0/0.jpg", "1/0.jpg", "2/0.jpg"]
    assert groups[-1][0] != groups[0][0]
    monkeypatch.setattr(file_checks, "SIZED", 1000)
    assert len(namesakes(np.array(names))) == 50
    assert namesakes(np.array([b"1.jpg", b"x/2.jpg"])) == []


@pytest.mark.parametrize("action", ["fit", "check"])
def test_coco_images_in_both_sets_give_a_warning(coco_folder, caplog, action):
    same = "data.val_images=train2017", "data.val_annotations=annotations/instances_train2017.json"
    root = f"data.root={coco_folder}"
    arguments = ["task=detection", "data=coco_format", root, f"action={action}", *same]
    assert said(caplog, configure, arguments)[-1].startswith(
        f"{coco_folder}/annotations/instances_train2017.json contains 4 of the 4 images of "
    )


def test_repeated_coco_images_give_a_warning(coco_folder, caplog):
    again = {**VAL["images"][0], "id": 99}
    write_annotations(coco_folder, "val", {**VAL, "images": [*VAL["images"], again]})
    arguments = ["task=detection", "data=coco_format", f"data.root={coco_folder}", "action=test"]
    lines = said(caplog, configure, arguments)
    assert any("contains 1 of its 3 images more than once (first: e.png" in each for each in lines)

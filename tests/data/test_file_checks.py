"""Every file of data of any task can be read before a training."""

import numpy as np
from PIL import Image

from parcnet_train.data.file_checks import BLOCK, look_at
from running import configure


def faults_of(*overrides):
    return configure(["action=check", "check.data=full", *overrides])[1]


def test_results_come_in_order():
    class Numbers:
        def look(self, sample):
            return sample * 2

    samples = list(range(3 * BLOCK, 0, -1))
    seen = list(look_at(Numbers(), samples))
    assert [each.sample for each in seen] == samples
    assert [each.result for each in seen] == [2 * sample for sample in samples]


def test_images_of_folders(image_folder):
    arguments = "data=imagefolder", f"data.root={image_folder}"
    assert faults_of(*arguments) == []
    paths = [image_folder / "train" / "ant" / "0.png", image_folder / "val" / "bee" / "1.jpg"]
    for path in paths:
        path.write_bytes(b"nothing")
    found = faults_of(*arguments, "data.on_error=skip")
    assert [str(path) in fault for path, fault in zip(paths, found, strict=True)] == [True, True]
    assert all("cannot be read as an image" in fault for fault in found)
    assert configure([*arguments, "action=check"])[1] == []


def test_images_with_boxes(coco_folder):
    arguments = "task=detection", "data=coco_format", f"data.root={coco_folder}"
    assert faults_of(*arguments) == []
    (coco_folder / "train2017" / "a.png").write_bytes(b"nothing")
    Image.fromarray(np.zeros((45, 71, 3), np.uint8)).save(coco_folder / "val2017" / "e.png")
    unreadable, other_size = faults_of(*arguments)
    assert "train2017/a.png cannot be read as an image" in unreadable
    assert "e.png has 71x45 pixels" in other_size


def test_images_of_hugging_face(huggingface_folder):
    assert faults_of("data=huggingface", f"data.root={huggingface_folder}") == []


def test_demonstration_data_is_written_to_be_read(tmp_path):
    arguments = "data=demo", f"data.root={tmp_path / 'digits'}"
    assert configure(["action=check", *arguments])[1] == []
    assert not (tmp_path / "digits").exists()
    assert faults_of(*arguments) == []
    next((tmp_path / "digits" / "val").rglob("*.png")).write_bytes(b"nothing")
    (fault,) = faults_of(*arguments)
    assert "cannot be read as an image" in fault


def test_a_check_is_of_a_training(image_folder):
    """Both sets must be there, as for action=fit."""
    (image_folder / "train").rename(image_folder / "elsewhere")
    (fault,) = configure(["action=check", "data=imagefolder", f"data.root={image_folder}"])[1]
    assert "train does not exist" in fault

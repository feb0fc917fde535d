"""Images that change or vanish while a training reads them."""

import cv2
import numpy as np
import pytest

import coco_files
import voc_files
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.errors import DataError
from parcnet_train.tasks.base import Task
from running import TINY, run

SETS = {
    "classification": "imagefolder",
    "detection": "coco_format",
    "segmentation": "voc_format",
}


def vanish(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:100])


def empty(path):
    path.write_bytes(b"")


def become_text(path):
    path.write_text("not an image")


def become_a_folder(path):
    path.unlink()
    path.mkdir()


def grow(path):
    pixels = np.zeros((9, 300, 3), np.uint8)  # as JPEG, whatever the suffix says
    path.write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())


def train(task, root, output, monkeypatch, change):
    """Train two epochs, and change all training images after the first one."""

    def at_end(module):
        if module.current_epoch == 0:
            change()

    monkeypatch.setattr(Task, "on_train_epoch_end", at_end, raising=False)
    size = () if task == "classification" else ("recipe.image_size=64",)
    own = (f"task={task}", f"data={SETS[task]}", f"data.root={root}", "task.pictures=0")
    return run([*TINY, *size, *own, "trainer.max_epochs=2"], output)


@pytest.fixture
def roots(tmp_path):
    """Function that writes the set of a task and returns its folder and its training images."""

    def write(task):
        root = tmp_path / "set"
        if task == "detection":
            coco_files.write_copies(root)
            return root, sorted((root / "train2017").iterdir())
        voc_files.write_several(root)
        names = (root / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
        return root, [file for file in (root / "JPEGImages").iterdir() if file.stem in names]

    return write


@pytest.mark.parametrize(
    "change",
    [
        vanish,
        *(pytest.param(each, marks=pytest.mark.slow) for each in (truncate, empty)),
        *(pytest.param(each, marks=pytest.mark.slow) for each in (become_text, become_a_folder)),
    ],
)
def test_changed_image_is_named(change, image_folder, tmp_path, monkeypatch):
    images = sorted((image_folder / "train").rglob("*.*"))

    def change_all():
        for image in images:
            change(image)

    message = r"train.(cat|ant|bee).\d\.(png|jpg) cannot be read as an image \(.+\)\. Fix: repair"
    with pytest.raises(DataError, match=message) as caught:
        train("classification", image_folder, tmp_path / "run", monkeypatch, change_all)
    assert "\n" not in str(caught.value)
    last = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert last["position"]["epoch"] == 1


def test_image_of_another_size_and_format_is_still_an_image(image_folder, tmp_path, monkeypatch):
    def change_all():
        for image in (image_folder / "train").rglob("*.*"):
            grow(image)

    results = train("classification", image_folder, tmp_path / "run", monkeypatch, change_all)
    assert results["epochs"] == 2


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_image_that_no_longer_fits_its_labels_is_named(task, roots, tmp_path, monkeypatch):
    root, images = roots(task)

    def change_all():
        for image in images:
            grow(image)

    with pytest.raises(DataError, match=r"300x9|9x300") as caught:
        train(task, root, tmp_path / "run", monkeypatch, change_all)
    assert any(image.name in str(caught.value) for image in images)
    assert "\n" not in str(caught.value)
    last = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert last["position"]["epoch"] == 1

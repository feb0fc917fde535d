"""What all tests share: torchvision made importable, one thread, a small data set on disk."""

import gc
import os
import shutil

import cv2
import numpy as np
import pytest
import torch

import composing
from coco_files import write_coco
from running import TRAINED, run
from voc_files import write_voc

# One thread a process, of the ones that tests start too: two processes that each want all cores
# slow each other down a hundredfold.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

composing.remember()


def pytest_collection_finish():
    """Searches for garbage less, and not among the modules that are imported by now.

    They are so many objects that these searches would take a third of a small training.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


CLASSES = ("cat", "ant", "bee")  # not sorted, as a file system may list them
SIZES = ((40, 56), (64, 48), (50, 90), (72, 41))  # height, width


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Folder and results of a small training, whose averaged weights are not the last ones."""
    output = tmp_path_factory.mktemp("trained")
    return output, run(TRAINED, output, draws=True)


@pytest.fixture
def resumable(trained, tmp_path_factory):
    """The folder of that training, to be changed; behind the test it is as before."""
    folder, copy = trained[0], tmp_path_factory.mktemp("copy") / "trained"
    shutil.copytree(folder, copy)
    yield folder
    shutil.rmtree(folder)
    copy.rename(folder)


@pytest.fixture(scope="session")
def huggingface_folder(tmp_path_factory):
    """The same three classes as `DatasetDict.save_to_disk` writes them, one image each."""
    import datasets

    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    file = {"bytes": cv2.imencode(".png", pixels)[1].tobytes(), "path": None}
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=sorted(CLASSES))}
    columns = {"image": [file] * len(CLASSES), "label": list(range(len(CLASSES)))}
    split = datasets.Dataset.from_dict(columns, datasets.Features(features))
    root = tmp_path_factory.mktemp("huggingface")
    datasets.DatasetDict(train=split, validation=split).save_to_disk(str(root))
    return root


@pytest.fixture
def image_folder(tmp_path):
    """ImageNet's layout with 3 classes, of 4 images in `train` and 2 in `val`, PNG and JPEG."""
    rng = np.random.default_rng(0)
    for split, number in (("train", 4), ("val", 2)):
        for name in CLASSES:
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for index, size in enumerate(SIZES[:number]):
                extension = ("png", "jpg")[index % 2]
                pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / f"{index}.{extension}"), pixels)
    return tmp_path


@pytest.fixture
def coco_folder(tmp_path):
    """COCO's layout with 3 categories, of 4 images in `train2017` and 3 in `val2017`."""
    return write_coco(tmp_path)


@pytest.fixture
def voc_folder(tmp_path):
    """VOC's layout with 3 classes, of 4 images in `train` and 3 in `val`."""
    return write_voc(tmp_path)

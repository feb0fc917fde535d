"""Shared setup and fixtures: one thread, small data sets, a small training."""

import gc
import logging
import os
import shutil
import signal
import sys

import cv2
import numpy as np
import pytest
import torch

import composing
import golden
import sweeping
from coco_files import write_coco
from parcnet_train import __main__ as entry
from parcnet_train.conversion.convert import convert
from parcnet_train.data.prepare.official.voc_sources import VOC_CLASSES
from reporting import BASELINE, BETTER, report
from run_folders import provenance_of, results_of, write_row, write_run
from running import TRAINED, run
from voc_files import write_voc

# One thread per process, also in processes that tests start: two processes that both use all cores
# slow each other down by a factor of a hundred.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

composing.remember()


def pytest_collection_finish():
    """Collect garbage less often, and ignore the objects of the modules imported so far.

    There are so many of them that the collections would take a third of a small training.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


CLASSES = ("cat", "ant", "bee")  # not sorted, as a file system may list them
SIZES = ((40, 56), (64, 48), (50, 90), (72, 41))  # height, width


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Folder and results of a small training whose averaged weights differ from the last ones."""
    output = tmp_path_factory.mktemp("trained")
    return output, run(TRAINED, output, draws=True)


@pytest.fixture
def resumable(trained, tmp_path_factory):
    """Folder of the small training, which a test may change; it is restored after the test."""
    folder, copy = trained[0], tmp_path_factory.mktemp("copy") / "trained"
    shutil.copytree(folder, copy)
    yield folder
    shutil.rmtree(folder)
    copy.rename(folder)


@pytest.fixture(scope="session")
def huggingface_folder(tmp_path_factory):
    """The same three classes in the format of `DatasetDict.save_to_disk`, one image each."""
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
    """ImageNet's layout: 3 classes with 4 images in `train` and 2 in `val` each, PNG and JPEG."""
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
    """COCO's layout: 3 categories, 4 images in `train2017` and 3 in `val2017`."""
    return write_coco(tmp_path)


@pytest.fixture
def voc_folder(tmp_path):
    """VOC's layout: 3 classes, 4 images in `train` and 3 in `val`."""
    return write_voc(tmp_path)


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory):
    """Folders of a thousand classes with one image each, enough for `check`."""
    root = tmp_path_factory.mktemp("imagenet")
    image = root / "image.png"
    cv2.imwrite(str(image), np.zeros((8, 8, 3), np.uint8))
    for split in ("train", "val"):
        for number in range(1000):
            folder = root / split / f"n{number:08}"
            folder.mkdir(parents=True)
            (folder / f"{split}.png").hardlink_to(image)
    return root


@pytest.fixture(scope="session")
def coco(tmp_path_factory):
    """COCO's layout with all 80 categories, and one image per split."""
    root = tmp_path_factory.mktemp("coco")
    image = {"id": 1, "file_name": "1.png", "height": 40, "width": 40}
    categories = [{"id": number, "name": f"thing {number}"} for number in range(1, 81)]
    box = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10]}
    document = {"images": [image], "annotations": [box], "categories": categories}
    return write_coco(root, document, document)


@pytest.fixture(scope="session")
def voc(tmp_path_factory):
    """VOC's layout with all classes of PASCAL VOC."""
    return write_voc(tmp_path_factory.mktemp("voc"), VOC_CLASSES)


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """Converted checkpoint of timm for a thousand classes."""
    import timm

    folder = tmp_path_factory.mktemp("converted")
    torch.save(golden.weights_of(timm.create_model("mobilevit_xxs")), folder / "timm.pt")
    settings = ("timm", "mobilevit_xxs", "classification")
    convert(folder / "timm.pt", folder / "timm.ckpt", *settings)
    return folder / "timm.ckpt"


@pytest.fixture
def best(trained):
    """Best checkpoint of the small training."""
    return trained[0] / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="session")
def made_report(tmp_path_factory):
    """Folder, results and CSV rows of a report of four rows, one with one seed, and other runs."""
    folder, output = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("report")
    write_row(folder, 1, BASELINE, {})
    write_row(folder, 4, BETTER[:2], {})
    write_row(folder, 7, BETTER, {})
    write_run(folder / "again", results_of(7, 0, 0.1), provenance_of(0), ended=1)
    write_row(folder, 9, (0.25,))
    for seed in (0, 1):
        results = results_of(7, seed, 0.9, backbone="parcnet_xs", ablation=None, data="a|<b>")
        write_run(folder / f"xs{seed}", results)
    write_run(folder / "bad", "{")
    results, rows = report(folder, output)
    return output, results, rows


@pytest.fixture
def start_sweep(tmp_path):
    """Start sweeps of small trainings in the folder of the test; none outlives the test."""
    started = []

    def start(*arguments, **options):
        started.append(sweeping.start(tmp_path, *arguments, **options))
        return started[-1]

    yield start
    for process in started:
        sweeping.kill(process)


@pytest.fixture
def call_here(tmp_path, monkeypatch):
    """Call `main` in this process, which has already imported PyTorch."""

    def call_main(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["parcnet_train", *arguments])
        monkeypatch.setattr(logging, "raiseExceptions", True)  # `main` changes it, and Ctrl-C
        try:
            entry.main()
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    yield call_main
    root = logging.getLogger()
    for handler in root.handlers[:]:  # Hydra's write to the captured output of this test
        if type(handler) in (logging.StreamHandler, logging.FileHandler):
            root.removeHandler(handler)
            handler.close()

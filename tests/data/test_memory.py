"""Memory of loader processes with a list of files as long as ImageNet's."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from lightning_fabric.utilities.data import _set_sampler_epoch

from parcnet_train.data.classification.dataset import ImageFolderDataset
from parcnet_train.data.classification.module import ImageFolderData
from parcnet_train.data.classification.transforms import Augmentation, TrainTransform
from parcnet_train.data.folders import labels_of

LENGTH = 1_281_167
WORKERS = 2
BATCH_SIZE = 64
IMAGES = WORKERS * BATCH_SIZE  # per epoch
MIB = 2**20

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="reads /proc; other systems start workers otherwise"
)


class WholeEpoch(ImageFolderDataset):
    """Read a share of the list for every image, so that few images cover all of it."""

    def __getitem__(self, key):
        # Not every entry: neighbors are in the same page of memory, even as Python objects.
        for index in range(16 * (key.sample % IMAGES), len(self.paths), 16 * IMAGES):
            _ = self.paths[index], self.labels[index]
        return super().__getitem__(key)


def private_memory(process):
    """Return the bytes that a process does not share with others."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def ten_epochs(photos, data):
    """Return the private bytes of each worker after the first and after the tenth epoch."""
    data.train_set = photos
    data.workers = lambda: WORKERS
    loader = data.train_dataloader()
    seen = []
    for epoch in range(10):
        _set_sampler_epoch(loader, epoch)
        assert len(list(itertools.islice(loader, WORKERS))) == WORKERS
        seen.append([private_memory(worker.pid) for worker in loader._iterator._workers])
    return np.array(seen[0]), np.array(seen[-1])


@pytest.fixture
def data(image_folder):
    return ImageFolderData(str(image_folder), 32, BATCH_SIZE, Augmentation())


@pytest.fixture
def few(data):
    """List of a dozen files, as long as an epoch, with names as long as ImageNet's."""
    for path in data.train_folder.glob("*/*"):
        path.rename(path.with_name(f"ILSVRC2012_n01440764_{path.name}"))
    dataset = WholeEpoch(
        data.train_folder, labels_of(data.class_names), TrainTransform(data.augmentation, 0), "stop"
    )
    lengthen(dataset, IMAGES)
    return dataset


def lengthen(dataset, length):
    chosen = np.arange(length) % len(dataset)
    dataset.paths, dataset.labels = dataset.paths[chosen], dataset.labels[chosen]


@pytest.fixture
def otherwise(few, data):
    """Private bytes of a worker with a short list, such as the interpreter's objects."""
    _, last = ten_epochs(few, data)
    return last.max()


@pytest.fixture
def photos(few, otherwise):
    """List of those files, as long as ImageNet's and with names as long."""
    lengthen(few, LENGTH)
    return few


def test_file_list_is_not_copied_into_workers(photos, data, otherwise):
    size = photos.paths.nbytes + photos.labels.nbytes
    assert size > 40 * MIB
    first, last = ten_epochs(photos, data)
    assert (last - first).max() < size / 4
    assert last.max() - otherwise < size / 4


@pytest.mark.slow
def test_memory_test_detects_a_list_of_python_objects(photos, data, otherwise):
    photos.paths, photos.labels = photos.paths.tolist(), photos.labels.tolist()
    _, last = ten_epochs(photos, data)
    assert last.min() - otherwise > 40 * MIB

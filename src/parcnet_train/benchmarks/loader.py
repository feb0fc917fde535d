"""Loading speed of training images, compared with Pillow and torchvision."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from parcnet_train.benchmarks.timing import Timing, take_turns
from parcnet_train.data.classification.dataset import ImageFolderDataset
from parcnet_train.data.classification.module import ImageFolderData
from parcnet_train.errors import ConfigError, DataError
from parcnet_train.files import read_regular

BATCHES = 4  # batches of each worker per round, so that all workers finish it together
OURS = "parcnet_train"
REFERENCE = "ordinary"


@dataclass(frozen=True)
class Speeds:
    """Results of the benchmark.

    Attributes:
        images: Number of images that are read per round.
        workers: Number of processes of each loader.
        timings: Timings of each loader.
    """

    images: int
    workers: int
    timings: dict[str, Timing]

    def of(self, loader: str) -> dict[str, float]:
        """Return a loader's images per second (median, min, max) and its ratio to the reference."""
        timing, reference = self.timings[loader], self.timings[REFERENCE]
        return {
            "images_per_second": 1e3 * self.images / timing.median,
            "images_per_second_min": 1e3 * self.images / max(timing.milliseconds),
            "images_per_second_max": 1e3 * self.images / min(timing.milliseconds),
            "ratio": reference.relative_to(timing),
        }


class OrdinaryImages(Dataset[tuple[Tensor, int]]):
    """The photos of a data set, read by Pillow and transformed by torchvision.

    Args:
        photos: Data set of this package.
        transform: Function that maps a Pillow image to a tensor.
    """

    def __init__(self, photos: ImageFolderDataset, transform: Callable[[Any], Tensor]) -> None:
        self.files = [photos.folder / os.fsdecode(path) for path in photos.paths]
        self.labels = photos.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image as `(3, H, W)` float, and its class index.

        Raises:
            DataError: If Pillow cannot read it.
        """
        try:
            with Image.open(io.BytesIO(read_regular(self.files[index]))) as file:
                image = file.convert("RGB")
        except Exception as error:  # on other files, Pillow raises nearly any exception
            raise DataError(
                f"{self.files[index]} cannot be read by Pillow, which benchmark.target=loader "
                "compares with. Fix: repair the file, or set another data.root"
            ) from error
        return self.transform(image), self.labels[index]


def time_loaders(data: Any, repeats: int) -> Speeds:
    """Time loaders of the same photos, with the same number of workers, interleaved.

    A round is a whole epoch, since loaders read ahead: the workers of a loader that is stopped
    within an epoch would still be busy while the next loader is timed.

    Args:
        data: Data module over folders of images; its list is shortened or repeated to one round.
        repeats: Number of timed rounds.

    Raises:
        ConfigError: If the data module is of another kind.
    """
    if isinstance(data, ImageFolderData):
        data.train_set = data.make_train_set()
    photos = getattr(data, "train_set", None)
    if not isinstance(photos, ImageFolderDataset):
        raise ConfigError(
            "benchmark.target=loader: this data set is of another kind; expected folders of "
            "images. Fix: data=imagefolder"
        )
    workers = data.workers()
    images = BATCHES * max(1, workers) * data.batch_size
    chosen = np.arange(images) % len(photos)
    photos.paths, photos.labels = photos.paths[chosen], photos.labels[chosen]
    data.multi_scale = None
    loaders = {
        OURS: data.train_dataloader(),
        REFERENCE: ordinary_loader(
            data, photos, [*crop_and_flip(data.image_size), v2.PILToTensor()]
        ),
        # The order that torchvision's documentation recommends for speed.
        "ordinary_tensors": ordinary_loader(
            data, photos, [v2.PILToTensor(), *crop_and_flip(data.image_size)]
        ),
    }
    variants = {name: functools.partial(read, loader) for name, loader in loaders.items()}
    try:
        return Speeds(images, workers, take_turns(variants, repeats, torch.device("cpu")))
    finally:
        data.end_workers()


def read(loader: Iterable[Sized]) -> None:
    """Read all batches of one epoch."""
    for _ in loader:
        pass


def crop_and_flip(size: tuple[int, int]) -> list[Any]:
    """Return the paper's augmentation, which works on images and on tensors."""
    return [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]


def ordinary_loader(
    data: ImageFolderData, photos: ImageFolderDataset, steps: list[Any]
) -> DataLoader[Any]:
    """Return a loader of float images in [0, 1], built as in torchvision's documentation."""
    transform = v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True)])
    workers = data.workers()
    return DataLoader(
        OrdinaryImages(photos, transform),
        batch_size=data.batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
    )


def results_of(speeds: Speeds) -> Iterator[tuple[str, float]]:
    """Yield the entries of `results.json`."""
    for loader in speeds.timings:
        for key, value in speeds.of(loader).items():
            yield f"loader/{loader}/{key}", value

"""Times the loading of training images against the ordinary way with Pillow and torchvision."""

from __future__ import annotations

import functools
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

BATCHES = 4  # of each worker per turn, so that all of them end it at once
OURS = "parcnet_train"
REFERENCE = "ordinary"


@dataclass(frozen=True)
class Speeds:
    """What was measured.

    Attributes:
        images: read in a turn.
        workers: processes of each loader.
        timings: turns of each loader.
    """

    images: int
    workers: int
    timings: dict[str, Timing]

    def of(self, loader: str) -> dict[str, float]:
        """Images per second: median, least, most; and how many times those of the reference."""
        timing, reference = self.timings[loader], self.timings[REFERENCE]
        return {
            "images_per_second": 1e3 * self.images / timing.median,
            "images_per_second_min": 1e3 * self.images / max(timing.milliseconds),
            "images_per_second_max": 1e3 * self.images / min(timing.milliseconds),
            "ratio": reference.relative_to(timing),
        }


class OrdinaryImages(Dataset[tuple[Tensor, int]]):
    """The photos of our data set, read by Pillow and transformed by torchvision.

    Args:
        photos: our data set.
        transform: maps an image of Pillow's to a tensor.
    """

    def __init__(self, photos: ImageFolderDataset, transform: Callable[[Any], Tensor]) -> None:
        self.files = [photos.folder / os.fsdecode(path) for path in photos.paths]
        self.labels = photos.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The image as `(3, H, W)` float and its class index.

        Raises:
            DataError: where Pillow cannot read it.
        """
        try:
            with Image.open(self.files[index]) as file:
                image = file.convert("RGB")
        except Exception as error:  # Pillow raises nearly anything for bytes of something else
            raise DataError(
                f"{self.files[index]} cannot be read by Pillow, which benchmark.target=loader "
                "compares with; mend it, or choose another data.root"
            ) from error
        return self.transform(image), self.labels[index]


def time_loaders(data: Any, repeats: int) -> Speeds:
    """Times loaders of the same photos, with as many workers, that take turns.

    A turn is an epoch from its start to its end, since a loader works ahead: one that is stopped in
    between would take its workers into the turn of the next.

    Args:
        data: a data module over folders of images; its list is made as long as a turn.
        repeats: turns.

    Raises:
        ConfigError: where it is of another kind.
    """
    if isinstance(data, ImageFolderData):
        data.train_set = data.make_train_set()
    photos = getattr(data, "train_set", None)
    if not isinstance(photos, ImageFolderDataset):
        raise ConfigError("benchmark.target=loader reads folders of images; use data=imagefolder")
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
        # What torchvision's documents advise for speed.
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
    """Takes one epoch's batches."""
    for _ in loader:
        pass


def crop_and_flip(size: tuple[int, int]) -> list[Any]:
    """The augmentation of the paper, of images or of tensors."""
    return [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]


def ordinary_loader(
    data: ImageFolderData, photos: ImageFolderDataset, steps: list[Any]
) -> DataLoader[Any]:
    """A loader that ends with numbers from 0 to 1, as the documents of torchvision show it."""
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
    """Keys and values for `results.json`."""
    for loader in speeds.timings:
        for key, value in speeds.of(loader).items():
            yield f"loader/{loader}/{key}", value

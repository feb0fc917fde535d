"""Images in one folder per class: ImageNet's own layout, and anybody's."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from parcnet_train.data.batches import UNLABELED, ClassificationBatch
from parcnet_train.data.decoding import Image, read_image
from parcnet_train.data.samplers import PADDING, EvalBatches, MultiScale, SampleKey, TrainBatches
from parcnet_train.data.transforms import Augmentation, EvalTransform, TrainTransform
from parcnet_train.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

Sample = tuple[Tensor, int] | None  # (3, H, W) uint8 and class index; None: unreadable, left out


def class_folders(folder: Path) -> list[str]:
    """Sorted names of the class folders, whose position is the class index.

    Raises:
        DataError: where the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise DataError(
            f"data.root: {folder} does not exist; allowed is a folder that holds one folder of "
            "images per class; set data.root, data.train_dir, data.val_dir"
        )
    entries = (entry for entry in os.scandir(folder) if not entry.name.startswith("."))
    names = sorted(entry.name for entry in entries if entry.is_dir())
    if not names:
        raise DataError(f"data.root: {folder} holds no class folders")
    return names


def refuse_unknown(folder: Path, name: str, class_names: Sequence[str]) -> None:
    """Refuses a class folder that the training set has not.

    Raises:
        DataError: where it has not.
    """
    if name not in class_names:
        raise DataError(f"data.root: {folder / name} is a class that the training set has not")


def list_images(
    folder: Path, class_names: Sequence[str]
) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.int64]]:
    """Paths, relative to the folder, and class indices of all images in its class folders.

    Both are flat arrays: a million Python strings would be copied into every worker bit by bit.

    Raises:
        DataError: where a class folder is unknown or holds no image.
    """
    paths: list[bytes] = []
    labels: list[int] = []
    for name in class_folders(folder):
        refuse_unknown(folder, name, class_names)
        found = sorted(
            f"{name}/{entry.name}"
            for entry in os.scandir(folder / name)
            if entry.name.lower().endswith(EXTENSIONS)
            and not entry.name.startswith(".")
            and entry.is_file()
        )
        if not found:
            raise DataError(
                f"data.root: class folder {folder / name} holds no image "
                f"({' '.join(EXTENSIONS)}); fill or remove it"
            )
        paths += map(os.fsencode, found)
        labels += [class_names.index(name)] * len(found)
    return np.array(paths), np.array(labels)


class ImageDataset(Dataset[Sample]):
    """Images with classes, transformed; a subclass reads them.

    Args:
        labels: class index of every image.
        transform: maps an image to one of the size of its key.
        on_error: `stop` raises for an unreadable image, `skip` leaves it out.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.int64],
        transform: Callable[[Image, SampleKey], Image],
        on_error: Literal["stop", "skip"],
    ) -> None:
        self.labels = labels
        self.transform = transform
        self.on_error = on_error

    def read(self, sample: int) -> Image | None:
        """One image, None where it cannot be read."""
        raise NotImplementedError

    def place(self, sample: int) -> str:
        """Where that image lies, for messages."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: SampleKey) -> Sample:
        """The image as `(3, H, W)` uint8 RGB and its class index; black and -1 for padding.

        In memory, the image is `(H, W, 3)`, as it is decoded.

        Raises:
            DataError: for an unreadable image, where `on_error` is `stop`.
        """
        if key.sample == PADDING:
            black = torch.zeros(*key.size, 3, dtype=torch.uint8)
            return black.permute(2, 0, 1), UNLABELED
        image = self.read(key.sample)
        if image is None:
            if self.on_error == "skip":
                return None
            raise DataError(
                f"{self.place(key.sample)} cannot be read as an image; mend or remove it, or go on "
                "without such files: data.on_error=skip"
            )
        pixels = torch.from_numpy(self.transform(image, key))
        return pixels.permute(2, 0, 1), int(self.labels[key.sample])


class ImageFolderDataset(ImageDataset):
    """Images of class folders.

    Args:
        folder: holds one folder per class.
        class_names: in the order of the class indices.
        transform: maps an image to one of the size of its key.
        on_error: `stop` raises for an unreadable image, `skip` leaves it out.
    """

    def __init__(
        self,
        folder: Path,
        class_names: Sequence[str],
        transform: Callable[[Image, SampleKey], Image],
        on_error: Literal["stop", "skip"],
    ) -> None:
        self.folder = folder
        self.paths, labels = list_images(folder, class_names)
        super().__init__(labels, transform, on_error)

    def read(self, sample: int) -> Image | None:
        """Decodes a file."""
        return read_image(Path(self.place(sample)))

    def place(self, sample: int) -> str:
        """The path of the file."""
        return str(self.folder / os.fsdecode(self.paths[sample]))


def collate(samples: Sequence[Sample], fill: bool = False) -> ClassificationBatch:
    """Stacks samples, in a worker into memory of both processes, and counts the unreadable ones.

    Args:
        samples: None where an image was unreadable.
        fill: take others of the batch twice instead; else its place is one that does not count.

    Raises:
        DataError: where none is left.
    """
    kept = [sample for sample in samples if sample is not None]
    if not kept:
        raise DataError(
            f"all {len(samples)} images of a batch are unreadable; look at the files under "
            "data.root, or raise recipe.batch_size"
        )
    skipped = len(samples) - len(kept)
    if fill:
        kept = [kept[number % len(kept)] for number in range(len(samples))]
    else:
        kept += [(torch.zeros_like(kept[0][0]), UNLABELED)] * skipped
    # Colours stay beside each other, as they were decoded: turning the axes is the device's work.
    images = default_collate([image.permute(1, 2, 0) for image, _ in kept]).permute(0, 3, 1, 2)
    labels = torch.tensor([label for _, label in kept])
    return ClassificationBatch(images, labels, torch.tensor(skipped))


def processors_of_this_process() -> int:
    """How many it may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # the workers are the threads
    # A signal to all processes of a job is for the one that trains: it still needs batches, and
    # ends its workers itself.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class ImageFolderData(pl.LightningDataModule):
    """Training and validation images in one folder per class.

    Args:
        root: holds `train_dir` and `val_dir`, each with one folder of images per class.
        train_dir: name of the training set's folder.
        val_dir: name of the validation set's folder.
        num_classes: expected number of classes; None takes what is there.
        image_size: height and width of the network's input, in pixels; one number for a square.
        batch_size: images per step and device, in training and in evaluation.
        augmentation: of the training images.
        multi_scale: sizes that the steps of a training draw from; None: always `image_size`.
        seed: of order and augmentation.
        num_workers: loader processes per set and device; all of a machine's devices together never
            start more per set than it has processors.
        on_error: `stop` at an unreadable image, or `skip` and count it.

    Raises:
        DataError: from `class_names` and `setup`, where the folders are not as they should be.
    """

    writes_root: ClassVar[bool] = False  # whether `prepare` makes the folder

    def __init__(
        self,
        root: str,
        image_size: int | tuple[int, int],
        batch_size: int,
        augmentation: Augmentation,
        train_dir: str = "train",
        val_dir: str = "val",
        num_classes: int | None = None,
        multi_scale: MultiScale | None = None,
        seed: int = 0,
        num_workers: int = 8,
        on_error: Literal["stop", "skip"] = "stop",
    ) -> None:
        super().__init__()
        self.root = Path(root).expanduser()
        self.train_folder = self.root / train_dir
        self.val_folder = self.root / val_dir
        self.expected_classes = num_classes
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.image_size = (height, width)
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.multi_scale = multi_scale
        self.seed = seed
        self.num_workers = num_workers
        self.on_error = on_error
        self.begin = (0, 0)  # epoch and batch

    def prepare(self) -> None:
        """Makes what must be there before classes can be counted; here it is all there."""

    @cached_property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their indices."""
        names = self.find_classes()
        if self.expected_classes not in (None, len(names)):
            raise DataError(
                f"data.num_classes={self.expected_classes}, but {self.root} has {len(names)} "
                "classes; data.num_classes=null counts them"
            )
        if len(names) < 2:
            raise DataError(f"data.root: {self.root} has one class, a classifier needs two or more")
        return names

    def find_classes(self) -> list[str]:
        """Names of the classes, as the data set has them."""
        # A validation set alone can be evaluated.
        has_train = self.train_folder.is_dir() or not self.val_folder.is_dir()
        return class_folders(self.train_folder if has_train else self.val_folder)

    def check_folders(self, action: str) -> None:
        """Looks whether the class folders of an action are there; opens no image.

        Args:
            action: `benchmark` needs the training set alone, `fit` the validation set too, the rest
                the latter alone.

        Raises:
            DataError: where one is missing, or its classes are not those of the training set.
        """
        training = [self.train_folder] if action in ("fit", "benchmark") else []
        validation = [self.val_folder] if action != "benchmark" else []
        for folder in [*training, *validation]:
            for name in class_folders(folder):
                refuse_unknown(folder, name, self.class_names)

    def setup(self, stage: str) -> None:
        """Lists the files of the sets that the stage (`fit` or `validate`) needs."""
        if stage == "fit":
            self.list_training_images()
        self.val_set = self._dataset(self.val_folder, EvalTransform())

    def list_training_images(self) -> None:
        """Makes the training set, which needs no validation set beside it."""
        transform = TrainTransform(self.augmentation, self.seed)
        self.train_set = self._dataset(self.train_folder, transform)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Batches of the training set, shuffled and augmented by (seed, epoch, index)."""
        return self._loader(
            self.train_set, self._train_batches(), functools.partial(collate, fill=True)
        )

    def go_on(self, epoch: int, batch: int, samples: int) -> bool:
        """Lets a resumed training begin where it stood.

        Args:
            epoch: counted from 0.
            batch: of the epoch, the next one to be trained.
            samples: of the epoch, seen by all processes before that batch.

        Returns:
            Whether it can: not in the middle of an epoch whose batches were others. It then
            begins that epoch again.
        """
        starts = self._train_batches().plan(epoch).starts
        fits = batch < len(starts) and bool(starts[batch] == samples)
        self.begin = (epoch, batch if fits else 0)
        return fits

    def _train_batches(self) -> TrainBatches:
        rank, world_size = self._place()
        epoch, first_batch = self.begin
        return TrainBatches(
            len(self.train_set),
            self.batch_size,
            self.image_size,
            self.seed,
            rank,
            world_size,
            self.multi_scale,
            self.augmentation.repeats,
            epoch=epoch,
            first_batch=first_batch,
        )

    def val_dataloader(self) -> DataLoader[Sample]:
        """Batches of the validation set, each image once."""
        batches = EvalBatches(len(self.val_set), self.batch_size, self.image_size, *self._place())
        return self._loader(self.val_set, batches, collate)

    def _place(self) -> tuple[int, int]:
        """Rank of this process, and their number."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def workers(self) -> int:
        """Loader processes of each set, which share the machine with those of other devices."""
        # Without a trainer, torchrun says how many processes this machine runs.
        alone = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        processes = self.trainer.num_devices if self.trainer else alone
        share = max(1, (os.cpu_count() or 1) // processes)
        # A scheduler may have given this process fewer processors.
        return min(self.num_workers, share, processors_of_this_process())

    def _dataset(
        self, folder: Path, transform: Callable[[Image, SampleKey], Image]
    ) -> ImageDataset:
        return ImageFolderDataset(folder, self.class_names, transform, self.on_error)

    def _loader(
        self,
        dataset: ImageDataset,
        batches: TrainBatches | EvalBatches,
        collate_samples: Callable[[Sequence[Sample]], ClassificationBatch],
    ) -> DataLoader[Sample]:
        workers = self.workers()
        return DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=collate_samples,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            worker_init_fn=_start_worker,
        )

"""Images in one folder per class: ImageNet's own layout, and anybody's."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from parcnet_train.data.batches import ClassificationBatch
from parcnet_train.data.decoding import Image
from parcnet_train.data.folders import class_folders, refuse_unknown
from parcnet_train.data.images import ImageDataset, ImageFolderDataset, Sample
from parcnet_train.data.loading import (
    collate,
    end_workers_of,
    make_loader,
    processors_of_this_process,
)
from parcnet_train.data.samplers import EvalBatches, MultiScale, SampleKey, TrainBatches
from parcnet_train.data.transforms import Augmentation, EvalTransform, TrainTransform
from parcnet_train.errors import DataError


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
        self.loaders: list[DataLoader[Sample]] = []

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
        loader = make_loader(dataset, batches, collate_samples, self.workers())
        self.loaders.append(loader)
        return loader

    def on_exception(self, exception: BaseException) -> None:
        """Ends all loader processes; Lightning ends those of the set that was being read."""
        self.end_workers()

    def end_workers(self) -> None:
        """Ends the processes of all loaders that this module has made."""
        while self.loaders:
            end_workers_of(self.loaders.pop())

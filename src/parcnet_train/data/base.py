"""Base class of the data modules: batch order, loader processes, resuming within an epoch."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypedDict

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from parcnet_train.bounds import Channels, Count, MaxPixels, NotNegative, Pixels, Positive, Whole
from parcnet_train.data.channels import RGB
from parcnet_train.data.file_checks import look_at, refuse
from parcnet_train.data.headers import MAX_PIXELS
from parcnet_train.data.loading import end_workers_of, loader_failure, make_loader
from parcnet_train.data.protocols import Counted, DataSet, InFiles, Labeled, lacking
from parcnet_train.data.samplers import EvalBatches, MultiScale, TrainBatches
from parcnet_train.data.stores.paths import AnyPath, StoredPath, local_folder
from parcnet_train.data.stores.roots import open_root
from parcnet_train.distributed.collectives import total
from parcnet_train.distributed.processes import own_cores
from parcnet_train.errors import DataError, TrainingError

Split = Literal["val", "test"]


class SharedArguments(TypedDict, total=False):
    """Optional arguments of every data module, which passes them on to `TaskData`."""

    multi_scale: MultiScale | None
    seed: int
    num_workers: Whole
    timeout_minutes: Positive
    on_error: Literal["stop", "skip"]
    max_pixels: MaxPixels
    channels: Channels
    split: Split
    cache: str
    cache_gb: NotNegative


class TaskData(pl.LightningDataModule):
    """Base class of the data modules.

    A subclass finds the class names, checks the files, creates the two data sets, which map a
    `SampleKey` to a sample, and defines how samples are stacked into a batch.

    Args:
        root: Folder of the data set, also as `file://`; or the address of one in an object store:
            `s3://`, `gs://` or `hf://`. Its images may be packed into shards.
        image_size: Height and width of the network's input in pixels; a single number for a square.
        batch_size: Images per step and device, in training and in evaluation.
        multi_scale: Image sizes from which every training step draws one; None: always
            `image_size`.
        seed: Seed of the sample order and of the augmentation.
        num_workers: Loader processes per set and device. All devices of a machine together never
            start more of them per set than it has processors.
        timeout_minutes: Longest time to wait for a batch of the loader processes, which may hang at
            a file; then the run ends.
        on_error: Handling of an unreadable file: `stop` raises an error, `skip` leaves the sample
            out and counts it.
        max_pixels: Largest number of pixels of an image; a file that declares more is unreadable.
        channels: Number of channels of the images: 1 or 3 converts every image to gray or RGB; any
            other number must be that of the files, PNG or TIFF.
        split: Split that is evaluated: the validation set, or the test set. A training needs the
            validation set, since it chooses the best epoch.
        cache: Folder for copies of files of object stores.
        cache_gb: Largest total size of the copies of one data set's images, in 10^9 bytes.
        repeats: Number of times that an epoch shows the same image; it then shows that many times
            fewer images.
        sampler: `balanced`: every class comes equally often in an epoch; None: every image once.
    """

    task: ClassVar[str]  # task that the batches are for, a value of `task=`
    writes_root: ClassVar[bool] = False  # whether `prepare` creates the folder
    train_set: DataSet
    val_set: DataSet
    evaluated_classes: Sequence[int] | None = None  # indices; None: all classes
    # Images of an optimizer step of all devices, at the base size, which are divided among batches
    # and devices; None: `batch_size` for each of them.
    global_batch: int | None = None

    def __init__(
        self,
        root: str,
        image_size: Pixels,
        batch_size: Count,
        multi_scale: MultiScale | None = None,
        seed: int = 0,
        num_workers: Whole = 8,
        timeout_minutes: Positive = 10.0,
        on_error: Literal["stop", "skip"] = "stop",
        max_pixels: MaxPixels = MAX_PIXELS,
        channels: Channels = RGB,
        split: Split = "val",
        cache: str = "~/.cache/parcnet_train",
        cache_gb: NotNegative = 100.0,
        repeats: int = 1,
        sampler: Literal["balanced"] | None = None,
    ) -> None:
        super().__init__()
        self.root = open_root(root, cache, cache_gb)
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.image_size = (height, width)
        self.batch_size = batch_size
        self.multi_scale = multi_scale
        self.seed = seed
        self.num_workers = num_workers
        self.timeout_minutes = timeout_minutes
        self.on_error = on_error
        self.max_pixels = max_pixels
        self.channels = channels
        self.split = split
        self.sampler = sampler
        self.repeats = repeats
        self.begin = (0, 0)  # epoch and batch to start from
        self.loaders: list[DataLoader[Any]] = []
        self.failure: TrainingError | None = None  # of the loader processes

    @property
    def folder(self) -> Path:
        """Root of a data set of this machine.

        Raises:
            DataError: If the root is an object store or packed.
        """
        return local_folder(self.root, type(self).__name__)

    def within(self, name: str) -> AnyPath:
        """Return the path of a file or folder; a relative path starts at the root."""
        return self.root / Path(name).expanduser()

    def prepare(self) -> None:
        """Create the files that must exist before classes are counted; by default, do nothing."""

    @cached_property
    def class_names(self) -> list[str]:
        """Names of the network's classes, in the order of their indices.

        Raises:
            DataError: If the data set has no class names, or not the expected ones.
        """
        return self.find_classes()

    def find_classes(self) -> list[str]:
        """Return the class names of the data set."""
        raise NotImplementedError

    def evaluate_classes(self, wanted: str | Sequence[str], class_names: Sequence[str]) -> None:
        """Evaluate a network on some of its classes, or on classes that have other names here.

        Args:
            wanted: Value of `task.evaluated_classes`.
            class_names: Names of the network's classes, which become those of this module.

        Raises:
            DataError: If the data have no class folders, or others than wanted.
        """
        raise DataError(
            f"task.evaluated_classes: {type(self).__name__} does not read class folders; expected "
            "null. Fix: data=imagefolder, with one folder per class"
        )

    def check_files(self, action: str) -> None:
        """Check that the files of an action exist and are valid; opens at most a few images.

        Args:
            action: Action to check for. `benchmark` needs only the training set, `fit` both sets,
                all others only the set of `split`.

        Raises:
            DataError: If a file is missing or invalid.
        """
        raise NotImplementedError

    def check_every_file(self) -> None:
        """Read all images of both sets, with a progress bar in a terminal.

        Raises:
            DataError: If a file is faulty; one line per fault.
        """
        refuse(self.faults_of_files())

    def faults_of_files(self) -> list[str]:
        """Return one line for every faulty image of both sets."""
        evaluated = {"val": "validation", "test": "test"}[self.split]
        sets = {"training": self.make_train_set(), evaluated: self.make_val_set()}
        return [
            str(seen.error)
            for title, each in sets.items()
            for seen in look_at(each, range(len(each)), title)
            if seen.error is not None
        ]

    def make_train_set(self) -> DataSet:
        """Create the training set; the validation set need not exist."""
        raise NotImplementedError

    def make_val_set(self) -> DataSet:
        """Create the evaluated set: that of `split`."""
        raise NotImplementedError

    def fingerprint(self) -> dict[str, Any]:
        """Return counts and hashes that identify the sets created so far, without opening a file.

        Returns:
            `train_images` and `val_images`: number of images, None if that set was not created; the
            evaluated test set has `test_images` instead of `val_images`;
            `files_sha256`: hash of the sorted names of all files, each with its set;
            `labels_sha256`: hash of all labels in memory, None if there are none.
        """
        files, labels = hashlib.sha256(), hashlib.sha256()
        counts: dict[str, int | None] = {}
        has_labels = False
        for split, name in (("train", "train_set"), (self.split, "val_set")):
            made: DataSet | None = getattr(self, name, None)
            counts[f"{split}_images"] = None if made is None else len(made)
            if made is None:
                continue
            files.update(b"".join(b"%b %b\n" % (split.encode(), n) for n in names_of(made)))
            for array in made.labels_in_memory():
                labels.update(np.ascontiguousarray(array).tobytes())
                has_labels = True
        return {
            **counts,
            "files_sha256": files.hexdigest(),
            "labels_sha256": labels.hexdigest() if has_labels else None,
        }

    @staticmethod
    def collate(samples: Sequence[Any], fill: bool = False) -> Any:
        """Stack samples into a batch.

        Args:
            samples: Samples of the batch, None for an unreadable one.
            fill: Whether an unreadable sample is replaced by another one of the batch; otherwise by
                a padding sample that does not count.

        Raises:
            DataError: If no sample of the batch is readable.
        """
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Create the data sets that a stage (`fit` or `validate`) needs."""
        if stage == "fit":
            self.count_training_images()
        self.val_set = self.make_val_set()

    def count_training_images(self) -> int:
        """Return the number of training images; creates the training set on the first call."""
        if not hasattr(self, "train_set"):
            self.train_set = self.make_train_set()
        return len(self.train_set)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return training batches, shuffled and augmented by (seed, epoch, index)."""
        return self._loader(
            self.train_set, self._train_batches(), functools.partial(self.collate, fill=True)
        )

    def go_on(self, epoch: int, step: int, samples: int) -> int | None:
        """Set the position from which a resumed training continues.

        Args:
            epoch: Epoch, counted from 0.
            step: Next optimizer step of this epoch.
            samples: Number of samples that all processes have seen in this epoch before that step.

        Returns:
            The next batch of the epoch; None if the position does not exist, since the epoch's
            steps had other sizes. The epoch is then started again.
        """
        batch = self._train_batches().position_of(epoch, step, samples)
        self.begin = (epoch, batch or 0)
        return batch

    def class_counts(self, num_classes: int) -> npt.NDArray[np.int64]:
        """Return the number of training labels of every class, `(num_classes,)`.

        Every process counts its share of the samples, or all if the method of the training set has
        no argument `rank`.

        Raises:
            ConfigError: If the training set does not count its labels.
        """
        if not isinstance(self.train_set, Counted):
            raise lacking("recipe.class_weights", self.train_set, "method class_counts")
        count = self.train_set.class_counts
        if "rank" not in inspect.signature(count).parameters:
            return count(num_classes)
        counts = torch.from_numpy(count(num_classes, *self._place()))
        device = self.trainer.strategy.root_device if self.trainer else None
        return total(counts.to(device)).cpu().numpy()

    def _labels(self) -> npt.NDArray[np.int64]:
        if not isinstance(self.train_set, Labeled):
            raise lacking("recipe.sampler", self.train_set, "attribute labels")
        return self.train_set.labels

    def _train_batches(self) -> TrainBatches:
        rank, world_size = self._place()
        epoch, first_batch = self.begin
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        return TrainBatches(
            len(self.train_set),
            self.global_batch or self.batch_size * world_size * accumulate,
            self.image_size,
            self.seed,
            rank,
            world_size,
            accumulate,
            self.multi_scale,
            self.repeats,
            epoch=epoch,
            first_batch=first_batch,
            labels=self._labels() if self.sampler == "balanced" else None,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Return batches of the evaluated set, each image once."""
        batches = EvalBatches(len(self.val_set), self.batch_size, self.image_size, *self._place())
        return self._loader(self.val_set, batches, self.collate)

    def _place(self) -> tuple[int, int]:
        """Return the rank of this process and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def workers(self) -> int:
        """Return the number of loader processes per set; devices share a machine's processors."""
        # Without a trainer, torchrun's environment has the number of processes on this machine.
        alone = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        processes = self.trainer.num_devices if self.trainer else alone
        share = max(1, (os.cpu_count() or 1) // processes)
        # A job scheduler may have assigned fewer processors to this process.
        return min(self.num_workers, share, own_cores())

    def _loader(
        self,
        dataset: DataSet,
        batches: TrainBatches | EvalBatches,
        collate_samples: Callable[[Sequence[Any]], Any],
    ) -> DataLoader[Any]:
        reads_ahead = isinstance(self.root, StoredPath) and isinstance(dataset, InFiles)
        loader = make_loader(
            dataset, batches, collate_samples, self.workers(), self.timeout_minutes, reads_ahead
        )
        self.loaders.append(loader)
        return loader

    def on_exception(self, exception: BaseException) -> None:
        """Stop all loader processes; Lightning only stops those of the set that was being read."""
        self.failure = loader_failure(exception, self.loaders)
        self.end_workers()

    def end_workers(self) -> None:
        """Stop the processes of all loaders that this module has created."""
        while self.loaders:
            end_workers_of(self.loaders.pop())


def names_of(dataset: DataSet) -> list[bytes]:
    """Return the sorted file names of a data set."""
    return sorted(dataset.files().tolist())

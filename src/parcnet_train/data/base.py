"""What the data of all tasks share: batches by plan, loader processes, going on where it stood."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from parcnet_train.data.decoding import Image
from parcnet_train.data.file_checks import look_at, refuse
from parcnet_train.data.loading import end_workers_of, make_loader
from parcnet_train.data.samplers import EvalBatches, MultiScale, SampleKey, TrainBatches
from parcnet_train.distributed.processes import own_cores


class DataSet(Protocol):
    """Samples by their keys."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: SampleKey) -> Any: ...

    def look(self, sample: int) -> Any:
        """Reads a sample's files, and raises `DataError` where something is wrong with one."""

    def original(self, sample: int) -> Image:
        """A sample's image of its own size; raises `UnreadableError` where it cannot be read."""

    def files(self) -> npt.NDArray[np.bytes_]:
        """Names of its files, within their folders."""

    def labels_in_memory(self) -> Sequence[npt.NDArray[Any]]:
        """What is known of the samples without opening a file; none where files hold it all."""


class TaskData(pl.LightningDataModule):
    """Base of the data modules.

    A subclass finds its classes, looks for its files, makes the two sets, which map a `SampleKey`
    to a sample, and says how samples make a batch.

    Args:
        root: folder of the data set.
        image_size: height and width of the network's input, in pixels; one number for a square.
        batch_size: images per step and device, in training and in evaluation.
        multi_scale: sizes that the steps of a training draw from; None: always `image_size`.
        seed: of order and augmentation.
        num_workers: loader processes per set and device; all of a machine's devices together never
            start more per set than it has processors.
        repeats: times that an epoch shows an image, while it shows that many times fewer images.
    """

    task: ClassVar[str]  # whose batches they are, as `task=` names it
    writes_root: ClassVar[bool] = False  # whether `prepare` makes the folder
    train_set: DataSet
    val_set: DataSet

    def __init__(
        self,
        root: str,
        image_size: int | tuple[int, int],
        batch_size: int,
        multi_scale: MultiScale | None,
        seed: int,
        num_workers: int,
        repeats: int = 1,
    ) -> None:
        super().__init__()
        self.root = Path(root).expanduser()
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.image_size = (height, width)
        self.batch_size = batch_size
        self.multi_scale = multi_scale
        self.seed = seed
        self.num_workers = num_workers
        self.repeats = repeats
        self.begin = (0, 0)  # epoch and batch
        self.loaders: list[DataLoader[Any]] = []

    def within(self, name: str) -> Path:
        """A file or folder of the data set: below its root, unless the name is a whole path."""
        return self.root / Path(name).expanduser()

    def prepare(self) -> None:
        """Makes what must be there before classes can be counted; here it is all there."""

    @cached_property
    def class_names(self) -> list[str]:
        """Names of the network's classes, in the order of their indices.

        Raises:
            DataError: where the data set does not tell, or has others than expected.
        """
        return self.find_classes()

    def find_classes(self) -> list[str]:
        """Names of the classes, as the data set has them."""
        raise NotImplementedError

    def check_files(self, action: str) -> None:
        """Looks whether what an action reads is there, and well-formed; opens no image or a few.

        Args:
            action: `benchmark` needs the training set alone, `fit` the validation set too, the rest
                the latter alone.

        Raises:
            DataError: where something is not.
        """
        raise NotImplementedError

    def check_every_file(self) -> None:
        """Reads all images of both sets, with progress where someone looks.

        Raises:
            DataError: one line per fault.
        """
        refuse(self.faults_of_files())

    def faults_of_files(self) -> list[str]:
        """One line for every fault of an image, of both sets."""
        sets = {"training": self.make_train_set(), "validation": self.make_val_set()}
        return [
            str(seen.error)
            for title, each in sets.items()
            for seen in look_at(each, range(len(each)), title)
            if seen.error is not None
        ]

    def make_train_set(self) -> DataSet:
        """The training set, which needs no validation set beside it."""
        raise NotImplementedError

    def make_val_set(self) -> DataSet:
        """The validation set."""
        raise NotImplementedError

    def fingerprint(self) -> dict[str, Any]:
        """What tells this data from other data, of the sets that were made; no file is opened.

        Returns:
            `train_images` and `val_images`, None without that set; `files_sha256` of the sorted
            names of all files, each with its set; `labels_sha256` of all labels that are in memory,
            None where none are.
        """
        files, labels = hashlib.sha256(), hashlib.sha256()
        counts: dict[str, int | None] = {}
        has_labels = False
        for split in ("train", "val"):
            made: DataSet | None = getattr(self, f"{split}_set", None)
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
        """Makes a batch of samples.

        Args:
            samples: None where an image was unreadable.
            fill: take others of the batch twice instead; else its place is one that does not count.

        Raises:
            DataError: where none is left.
        """
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Makes the sets that the stage (`fit` or `validate`) needs."""
        if stage == "fit":
            self.count_training_images()
        self.val_set = self.make_val_set()

    def count_training_images(self) -> int:
        """Number of training images; makes the training set, once."""
        if not hasattr(self, "train_set"):
            self.train_set = self.make_train_set()
        return len(self.train_set)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of the training set, shuffled and augmented by (seed, epoch, index)."""
        return self._loader(
            self.train_set, self._train_batches(), functools.partial(self.collate, fill=True)
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
            self.repeats,
            epoch=epoch,
            first_batch=first_batch,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of the validation set, each image once."""
        batches = EvalBatches(len(self.val_set), self.batch_size, self.image_size, *self._place())
        return self._loader(self.val_set, batches, self.collate)

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
        return min(self.num_workers, share, own_cores())

    def _loader(
        self,
        dataset: DataSet,
        batches: TrainBatches | EvalBatches,
        collate_samples: Callable[[Sequence[Any]], Any],
    ) -> DataLoader[Any]:
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


def names_of(dataset: DataSet) -> list[bytes]:
    """Sorted names of the files of a set."""
    return sorted(dataset.files().tolist())

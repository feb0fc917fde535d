"""Loader processes of a data set: how they start, stack samples into batches, and stop."""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from parcnet_train.data.batches import PADDING
from parcnet_train.data.samplers import EvalBatches, SampleKey, TrainBatches
from parcnet_train.data.stores.paths import read_ahead
from parcnet_train.distributed.processes import SAVING
from parcnet_train.errors import DataError

Loaded = TypeVar("Loaded")  # type of a sample

SECONDS_AFTER_SIGTERM = 60  # time that launch.py gives a process to write its checkpoint


def readable(samples: Sequence[Loaded | None], fill: bool) -> list[Loaded]:
    """Return the readable samples of a batch.

    Args:
        samples: Samples of the batch, None for an unreadable one.
        fill: Whether readable samples are repeated until the batch is full, as in training.

    Raises:
        DataError: If no sample is readable.
    """
    kept = [sample for sample in samples if sample is not None]
    if not kept:
        raise DataError(
            f"all {len(samples)} images of a batch are unreadable. Fix: check the files under "
            "data.root, or increase recipe.batch_size"
        )
    return [kept[number % len(kept)] for number in range(len(samples))] if fill else kept


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Stack `(3, H, W)` images; in a loader process, into shared memory."""
    # Pixels stay in channels-last order, as they were decoded; the device changes the order.
    return default_collate([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def start_worker(worker: int) -> None:
    """Initialize a loader process: one thread, SIGINT and the checkpoint signals are ignored."""
    cv2.setNumThreads(0)  # parallelism comes from the processes
    # A signal to all processes of a job is meant for the training process. It needs batches until
    # its checkpoint is written, and stops its loader processes itself.
    for number in (signal.SIGINT, *SAVING):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(SECONDS_AFTER_SIGTERM))


class ReadAhead(Dataset[Any]):
    """Data set that fetches the files of a whole batch at once from a store.

    Args:
        dataset: Data set of the samples, which has the methods of `InFiles`.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitems__(self, keys: Sequence[SampleKey]) -> list[Any]:
        """Return the samples of a batch; the loader calls this if it exists."""
        samples = {key.sample for key in keys} - {PADDING}
        paths = [path for sample in sorted(samples) for path in self.dataset.paths_of(sample)]
        with read_ahead(paths):
            return [self.dataset[key] for key in keys]


def make_loader(
    dataset: Any,
    batches: TrainBatches | EvalBatches,
    collate_samples: Callable[[Sequence[Any]], Any],
    workers: int,
    reads_ahead: bool = False,
) -> DataLoader[Any]:
    """Create a loader whose processes, if any, persist from epoch to epoch.

    Args:
        dataset: Data set to read.
        batches: Keys of the samples of each batch.
        collate_samples: Function that stacks the samples of a batch.
        workers: Number of processes; 0: this one reads.
        reads_ahead: Whether the files of a batch are fetched at once, as from an object store.
    """
    loader = DataLoader(
        ReadAhead(dataset) if reads_ahead else dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate_samples,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=start_worker,
    )
    atexit.register(end_workers_behind, weakref.ref(loader))
    return loader


def end_workers_behind(reference: weakref.ref[DataLoader[Any]]) -> None:
    """Stop the processes of a loader that still exists when the program ends."""
    loader = reference()
    if loader is not None:
        end_workers_of(loader)


def end_workers_of(loader: DataLoader[Any]) -> None:
    """Stop the processes of a loader; they ignore signals, and the program's exit awaits them."""
    iterator = loader._iterator  # persistent; None without processes
    if iterator is not None:
        iterator._shutdown_workers()  # type: ignore[attr-defined]
        loader._iterator = None

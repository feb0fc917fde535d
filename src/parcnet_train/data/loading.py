"""From samples to batches: what the loader processes of a data set do, and how they end."""

from __future__ import annotations

import atexit
import os
import signal
import weakref
from collections.abc import Callable, Sequence

import cv2
import torch
from torch.utils.data import DataLoader, default_collate

from parcnet_train.data.batches import UNLABELED, ClassificationBatch
from parcnet_train.data.images import ImageDataset, Sample
from parcnet_train.data.samplers import EvalBatches, TrainBatches
from parcnet_train.errors import DataError

SECONDS_AFTER_SIGTERM = 60  # as many as a process has for its checkpoint (launch.py)


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


def start_worker(worker: int) -> None:
    """Makes a process a loader's: one thread, and hard of hearing for signals."""
    cv2.setNumThreads(0)  # the workers are the threads
    # A signal to all processes of a job is for the one that trains: it still needs batches until
    # its checkpoint is written, and ends its workers itself.
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(SECONDS_AFTER_SIGTERM))


def make_loader(
    dataset: ImageDataset,
    batches: TrainBatches | EvalBatches,
    collate_samples: Callable[[Sequence[Sample]], ClassificationBatch],
    workers: int,
) -> DataLoader[Sample]:
    """A loader whose processes, if any, stay from epoch to epoch."""
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate_samples,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=start_worker,
    )
    atexit.register(end_workers_behind, weakref.ref(loader))
    return loader


def end_workers_behind(reference: weakref.ref[DataLoader[Sample]]) -> None:
    """Ends the processes of a loader that is still there when the program ends."""
    loader = reference()
    if loader is not None:
        end_workers_of(loader)


def end_workers_of(loader: DataLoader[Sample]) -> None:
    """Ends the processes of a loader, which heed no signal: a program's end waits for them."""
    iterator = loader._iterator  # kept from epoch to epoch; None without processes
    if iterator is not None:
        iterator._shutdown_workers()  # type: ignore[attr-defined]
        loader._iterator = None

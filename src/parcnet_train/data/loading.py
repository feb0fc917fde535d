"""From samples to batches: what the loader processes of a data set do, and how they end."""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from parcnet_train.data.samplers import EvalBatches, TrainBatches
from parcnet_train.distributed.processes import SAVING
from parcnet_train.errors import DataError

Loaded = TypeVar("Loaded")  # a sample

SECONDS_AFTER_SIGTERM = 60  # as many as a process has for its checkpoint (launch.py)


def readable(samples: Sequence[Loaded | None], fill: bool) -> list[Loaded]:
    """The samples of a batch that could be read.

    Args:
        samples: None where an image was unreadable.
        fill: take others of the batch twice in the places of those, as a training does.

    Raises:
        DataError: where none is left.
    """
    kept = [sample for sample in samples if sample is not None]
    if not kept:
        raise DataError(
            f"all {len(samples)} images of a batch are unreadable; look at the files under "
            "data.root, or raise recipe.batch_size"
        )
    return [kept[number % len(kept)] for number in range(len(samples))] if fill else kept


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Stacks `(3, H, W)` images, in a worker into memory of both processes."""
    # Colours stay beside each other, as they were decoded: turning the axes is the device's work.
    return default_collate([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def start_worker(worker: int) -> None:
    """Makes a process a loader's: one thread, and hard of hearing for signals."""
    cv2.setNumThreads(0)  # the workers are the threads
    # A signal to all processes of a job is for the one that trains: it still needs batches until
    # its checkpoint is written, and ends its workers itself.
    for number in (signal.SIGINT, *SAVING):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(SECONDS_AFTER_SIGTERM))


def make_loader(
    dataset: Any,
    batches: TrainBatches | EvalBatches,
    collate_samples: Callable[[Sequence[Any]], Any],
    workers: int,
) -> DataLoader[Any]:
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


def end_workers_behind(reference: weakref.ref[DataLoader[Any]]) -> None:
    """Ends the processes of a loader that is still there when the program ends."""
    loader = reference()
    if loader is not None:
        end_workers_of(loader)


def end_workers_of(loader: DataLoader[Any]) -> None:
    """Ends the processes of a loader, which heed no signal: a program's end waits for them."""
    iterator = loader._iterator  # kept from epoch to epoch; None without processes
    if iterator is not None:
        iterator._shutdown_workers()  # type: ignore[attr-defined]
        loader._iterator = None

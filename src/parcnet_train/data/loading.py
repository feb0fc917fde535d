"""Loader processes of a data set: how they start, stack samples into batches, and stop."""

from __future__ import annotations

import atexit
import errno
import os
import re
import signal
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.sharedctypes import RawArray
from typing import Any, TypeVar

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, _utils, default_collate, get_worker_info
from torch.utils.data.dataloader import _BaseDataLoaderIter, _MultiProcessingDataLoaderIter

from parcnet_train.data.batches import PADDING
from parcnet_train.data.samplers import EvalBatches, SampleKey, TrainBatches
from parcnet_train.data.stores.paths import read_ahead
from parcnet_train.distributed.processes import SAVING
from parcnet_train.errors import DataError, TrainingError, printable, shortened

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
    worker_info: Any = get_worker_info()
    worker_info.dataset.processes[worker] = os.getpid()
    cv2.setNumThreads(0)  # parallelism comes from the processes
    # A signal to all processes of a job is meant for the training process. It needs batches until
    # its checkpoint is written, and stops its loader processes itself.
    for number in (signal.SIGINT, *SAVING):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(SECONDS_AFTER_SIGTERM))


class Noted(Dataset[Any]):
    """Data set whose loader processes note the sample that each of them is reading.

    Args:
        dataset: Data set to read.
        workers: Number of loader processes.
    """

    def __init__(self, dataset: Any, workers: int) -> None:
        self.dataset = dataset
        self.reading = RawArray("q", [PADDING] * workers)  # PADDING: none
        # The process IDs are noted here because a process may end before the loader's iterator,
        # which knows them too, has been returned.
        self.processes = RawArray("q", [0] * workers)  # 0: not started

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> Any:
        worker = get_worker_info()
        if worker is None:
            return self.dataset[key]
        self.reading[worker.id] = key.sample
        loaded = self.dataset[key]
        self.reading[worker.id] = PADDING
        return loaded

    def read_by(self, worker: int) -> str | None:
        """Return the file or the number of the sample that a process is reading; None: none."""
        sample = self.reading[worker]
        if sample == PADDING:
            return None
        files = self.dataset.files()
        # The images come first, or the files are tables, which hold many of them.
        is_named = len(files) >= len(self.dataset)
        name = shortened(printable(os.fsdecode(files[sample]))) if is_named else ""
        return name or f"sample {sample} (counted from 0)"


class ReadAhead(Noted):
    """Data set that fetches the files of a whole batch at once from a store.

    Its data set has the methods of `InFiles`.
    """

    def __getitems__(self, keys: Sequence[SampleKey]) -> list[Any]:
        """Return the samples of a batch; the loader calls this if it exists."""
        samples = {key.sample for key in keys} - {PADDING}
        paths = [path for sample in sorted(samples) for path in self.dataset.paths_of(sample)]
        with read_ahead(paths):
            return [self[key] for key in keys]


class WorkerBatches(_MultiProcessingDataLoaderIter):
    """Iterator of batches, which looks every few seconds whether its processes are still there.

    With a timeout, PyTorch's own iterator looks only after it. Before, SIGCHLD tells it, which is
    missed if a process ends while others are being started.
    """

    def _try_get_data(self, timeout: float = _utils.MP_STATUS_CHECK_INTERVAL) -> tuple[bool, Any]:
        deadline = time.monotonic() + timeout
        while True:
            left = max(0, deadline - time.monotonic())
            wait = min(left, _utils.MP_STATUS_CHECK_INTERVAL)
            found = super()._try_get_data(wait)  # type: ignore[no-untyped-call]
            if found[0] or left <= _utils.MP_STATUS_CHECK_INTERVAL:
                return found


class Loader(DataLoader[Any]):
    """DataLoader that notices the end of any of its processes."""

    def _get_iterator(self) -> _BaseDataLoaderIter:
        return WorkerBatches(self) if self.num_workers else super()._get_iterator()


def make_loader(
    dataset: Any,
    batches: TrainBatches | EvalBatches,
    collate_samples: Callable[[Sequence[Any]], Any],
    workers: int,
    timeout_minutes: float,
    reads_ahead: bool = False,
) -> DataLoader[Any]:
    """Create a loader whose processes, if any, persist from epoch to epoch.

    Args:
        dataset: Data set to read.
        batches: Keys of the samples of every batch.
        collate_samples: Function that stacks samples into a batch.
        workers: Number of loader processes; 0: batches are loaded by this process.
        timeout_minutes: Longest time to wait for a batch of the loader processes.
        reads_ahead: Whether the files of a batch are fetched at once, as from an object store.
    """
    noted = ReadAhead if reads_ahead else Noted
    loader = Loader(
        noted(dataset, workers),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate_samples,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=start_worker,
        timeout=60 * timeout_minutes if workers else 0,
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
        for process in iterator._workers:  # type: ignore[attr-defined]
            if process.is_alive():  # it hangs; the program's exit would wait for it
                process.kill()
        loader._iterator = None


def loader_failure(
    error: BaseException, loaders: Iterable[DataLoader[Any]]
) -> TrainingError | None:
    """Return the error that says why loader processes failed; None if another thing did.

    PyTorch raises a RuntimeError anywhere in the program when a loader process is gone.

    Args:
        error: Exception that ended a training or an evaluation.
        loaders: Loaders whose processes have not been stopped yet.
    """
    running = [loader for loader in loaders if loader.num_workers]
    workers = running[0].num_workers if running else 0
    way_out = ". Fix: {}; then resume with ckpt=last if there is a checkpoint"
    for each in chain_of(error):
        text = str(each)
        if is_out_of_shared_memory(each):
            return TrainingError(
                f"data.num_workers={workers}: /dev/shm is too small for the batches of the loader "
                "processes"
                + way_out.format(
                    "enlarge it (docker run --shm-size=8g or --ipc=host), or set data.num_workers=0"
                )
            )
        if isinstance(each, RuntimeError) and text.startswith("DataLoader timed out after "):
            files = sorted(filter(None, (read for each in running for read in all_read(each))))
            return TrainingError(
                "data.timeout_minutes: the loader processes gave no batch for "
                f"{running[0].timeout / 60 if running else 0:g} minutes"
                + (f", while they were reading {', '.join(files)}" if files else "")
                + way_out.format(
                    "check that the files can be read, or increase data.timeout_minutes if they "
                    "only take long"
                )
            )
        if isinstance(each, RuntimeError) and re.match(r"DataLoader worker \(pid", text):
            return TrainingError(ended_worker(text, running) + way_out.format(REMEDY))
    return None


REMEDY = (
    "fewer data.num_workers or a smaller recipe.batch_size if the memory was full (see dmesg), "
    "otherwise repair or remove that file"
)


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_out_of_shared_memory(error: BaseException) -> bool:
    """Return whether an exception says that the memory shared with loader processes is full."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # semaphores of a queue
        frames = traceback.walk_tb(error.__traceback__)
        return any(
            frame.f_globals.get("__name__", "").startswith("multiprocessing.")
            for frame, _ in frames
        )
    signs = ("unable to allocate shared memory", "is killed by signal: Bus error")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def all_read(loader: DataLoader[Any]) -> list[str | None]:
    """Return what each process of a loader is reading."""
    noted: Any = loader.dataset
    return [noted.read_by(worker) for worker in range(loader.num_workers)]


def ended_worker(text: str, loaders: Iterable[DataLoader[Any]]) -> str:
    """Describe how a loader process has ended, and what it was reading.

    Args:
        text: PyTorch's message, `DataLoader worker (pid 7) is killed by signal: Killed. `,
            `DataLoader worker (pid 7) exited unexpectedly with exit code 3. ...` or
            `DataLoader worker (pid(s) 7, 8) exited unexpectedly`.
        loaders: Loaders that may have had this process.
    """
    numbers = re.search(r"\(pid(?:\(s\))? ([\d, ]+)\)", text)
    ended = {int(number) for number in numbers[1].split(", ")} if numbers else set()
    for loader in loaders:
        noted: Any = loader.dataset
        for worker, process in enumerate(noted.processes):
            if process in ended:
                file = noted.read_by(worker)
                reading = f" while it was reading {file}" if file else ""
                return (
                    f"data.num_workers={loader.num_workers}: a loader process was ended"
                    f"{cause_of_end(text, loader, worker)}{reading}"
                )
    return "data.num_workers: a loader process has ended"


def cause_of_end(text: str, loader: DataLoader[Any], worker: int) -> str:
    """Return ` by SIGKILL` or ` with exit code 3`; empty if it is unknown.

    Args:
        text: PyTorch's message; see `ended_worker`.
        loader: Loader that had the process.
        worker: Number of the process in its loader.
    """
    if killed := re.search(r"is killed by signal: (.+?)\. ", text):
        names = {signal.strsignal(each): each.name for each in signal.Signals}
        return f" by {names.get(killed[1], killed[1])}"
    if exited := re.search(r"with exit code (\d+)", text):
        return f" with exit code {exited[1]}"
    # The third message names no cause.
    iterator: Any = loader._iterator
    code = iterator._workers[worker].exitcode if iterator is not None else None
    if code is None:
        return ""
    return f" by {signal.Signals(-code).name}" if code < 0 else f" with exit code {code}"

"""Part of the script that times files: a process for each runtime, which runs its files on request.

The threads, allocator and memory of a runtime therefore do not affect the others. The text of this
module is copied into the script, so it must run with Python 3.9, NumPy and only one runtime.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from parcnet_train.deploy.runtimes import PACKAGES, Arrays, Run, open_model
from parcnet_train.deploy.standalone.memory import in_status, memory_now

SERVE = "--serve"  # first argument of the script in a worker
ANSWER = b"answer of a worker\n"  # line before each answer: a process may print other things first
GRACE = 10  # seconds in which a process that has closed its pipe ends
# Module that loads the code of a runtime, if that is not the package itself.
LIBRARIES = {
    "pytorch": "torch._export.serde.serialize",  # otherwise imported when a file is opened
    "litert": "ai_edge_litert.interpreter",
    "executorch": "executorch.extension.pybindings.portable_lib",
}
PROCESSES = 3  # that measure the load time and memory of a file; the median counts
PARTS = (".xml", ".param")  # graphs whose weights are in a `.bin` file beside them
Images = Any  # (N, C, H, W), float32 in [0, 1] or uint8; or the path of a .npy file of them


class WorkerError(RuntimeError):
    """A file cannot be run, or the process that runs it has ended."""


class Worker:
    """Process that runs files of one runtime; a context manager, which ends it.

    Args:
        script: Path of the script, which the process runs.
        runtime: Name of the runtime, a key of `OPENERS`.
        threads: Number of threads per inference.
    """

    def __init__(self, script: Path, runtime: str, threads: int) -> None:
        self.runtime = runtime
        self.process = subprocess.Popen(
            [sys.executable, str(script), SERVE, runtime, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,  # Ctrl-C reaches only the first process, which ends this one
        )

    def __enter__(self) -> Worker:
        return self

    def ask(self, request: str, path: Path, *arguments: Any) -> Any:
        """Let the process do something with a file, and wait for its answer.

        Args:
            request: Name of a method of `Models`.
            path: Path of the file.
            arguments: Further arguments of the method.

        Raises:
            WorkerError: If the file cannot be run, or the process has ended.
        """
        assert self.process.stdin is not None  # for the type checker
        assert self.process.stdout is not None
        try:
            pickle.dump((request, str(path), *arguments), self.process.stdin)
            self.process.stdin.flush()
            if not any(line == ANSWER for line in self.process.stdout):
                raise EOFError
            is_fine, answer = pickle.load(self.process.stdout)
        except Exception as error:  # half an answer can raise anything
            raise WorkerError(self.end_while(path)) from error
        if not is_fine:
            raise WorkerError(f"{self.runtime} cannot run {path}: {answer}")
        return answer

    def end_while(self, path: Path) -> str:
        """Return how the process ended while it ran a file; it is killed if it has not ended."""
        try:
            code = self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return f"{self.runtime}: its process sent an unreadable answer while it ran {path}"
        end = f"exit code {code}" if code >= 0 else f"signal {-code}"
        return (
            f"{self.runtime}: its process ended with {end} while it ran {path}, most often for "
            "lack of memory. Fix: time fewer files at once"
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what the process has not read
                pipe.close()


@contextlib.contextmanager
def workers(script: Path, runtimes: Iterable[str], threads: int) -> Iterator[dict[str, Worker]]:
    """Start a process for each runtime, and end all of them afterwards."""
    with contextlib.ExitStack() as stack:
        yield {
            runtime: stack.enter_context(Worker(script, runtime, threads))
            for runtime in dict.fromkeys(runtimes)
        }


def footprint_of(
    script: Path, runtime: str, threads: int, path: Path, images: Images
) -> dict[str, Any]:
    """Return size, load time and peak memory of a file: medians of three processes; see `Models`.

    Raises:
        WorkerError: If the file cannot be run, or a process has ended.
    """
    found: list[dict[str, Any]] = []
    for _ in range(PROCESSES):
        with Worker(script, runtime, threads) as worker:
            found.append(worker.ask("footprint", path, images))
    values = {key: [each[key] for each in found] for key in found[0]}
    return {key: None if None in each else statistics.median(each) for key, each in values.items()}


class Models:
    """Files of one runtime in this process.

    Args:
        runtime: Name of the runtime, a key of `OPENERS`.
        threads: Number of threads per inference.
    """

    def __init__(self, runtime: str, threads: int) -> None:
        self.runtime, self.threads = runtime, threads
        self.opened: dict[str, tuple[Run, Any]] = {}

    def open(self, path: str, images: Images) -> None:
        """Open a file, and the images that it is run on."""
        model = open_model(self.runtime, Path(path), self.threads)
        self.opened[path] = model, in_memory(images)

    def outputs(self, path: str) -> Arrays:
        """Return the outputs for the first image, by name."""
        model, images = self.opened[path]
        return model(image_of(images, 0))

    def time(self, path: str, indices: Sequence[int]) -> list[float]:
        """Return the duration of an inference of each of some images, in milliseconds.

        An untimed inference comes first, so that the caches are as in a loop of only this file.
        """
        model, images = self.opened[path]
        model(image_of(images, indices[0]))
        times = []
        for index in indices:
            image = image_of(images, index)
            start = time.perf_counter()
            model(image)
            times.append(1e3 * (time.perf_counter() - start))
        return times

    def footprint(self, path: str, images: Images) -> dict[str, Any]:
        """Return size, load time and peak memory of a file, the first that this process opens.

        Returns:
            `bytes`: size of all parts of the file. `load_milliseconds`: duration of opening it and
            of the first inference, the runtime having been imported. `peak_memory_bytes`: largest
            memory of both beyond that of the imported runtime; None on other systems than Linux.
        """
        importlib.import_module(LIBRARIES.get(self.runtime, PACKAGES[self.runtime][0]))
        image = image_of(in_memory(images), 0)
        before = memory_now()
        start = time.perf_counter()
        model = open_model(self.runtime, Path(path), self.threads)
        try:
            model(image)
        except Exception as error:  # each runtime has errors of its own
            raise WorkerError(
                f"{described(error)}. Fix: it must take float32 images {image.shape}; export "
                "it with export.preprocess=false and data.channels=3"
            ) from error
        milliseconds = 1e3 * (time.perf_counter() - start)
        return {
            "bytes": sum(each.stat().st_size for each in parts_of(Path(path))),
            "load_milliseconds": milliseconds,
            "peak_memory_bytes": None if before is None else in_status("VmHWM") - before,
        }


def in_memory(images: Images) -> Any:
    """Return images as an array; of a file, only what is used is read."""
    return np.load(images, mmap_mode="r") if isinstance(images, str) else images


def image_of(images: Any, index: int) -> Any:
    """Return one image as files take it: `(1, C, H, W)` float32 in [0, 1]."""
    image = np.array(images[index : index + 1])
    return image.astype(np.float32) / 255 if image.dtype == np.uint8 else image


def parts_of(path: Path) -> list[Path]:
    """Return the paths of all parts of a file, given the one that is opened."""
    return [path, path.with_suffix(".bin")] if path.suffix in PARTS else [path]


def described(error: Exception) -> str:
    """Return the kind of an error, and the first line of its text that is not empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[:1]])


def serve() -> None:
    """Answer the requests of a `Worker` until it is gone; this is its process."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)  # what runtimes print is no answer
    runtime, threads = sys.argv[2:]
    models = Models(runtime, int(threads))
    while True:
        try:
            request, *arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = (True, getattr(models, request)(*arguments))
        except WorkerError as error:
            answer = (False, str(error))
        except Exception as error:
            answer = (False, described(error))
        answers.write(b"\n" + ANSWER)
        pickle.dump(answer, answers)
        answers.flush()

"""Inference and timing of exported files in their own runtimes.

This module needs only NumPy and a runtime. It is also a script: copied beside the files, it times
them on a Raspberry Pi or a phone, where this package is not installed:

    python time_models.py *.onnx --threads 1 --iterations 100
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]  # NumPy arrays by name
Run = Callable[[Any], Arrays]

INPUT = "images"
WARMUP = 10  # rounds that are not timed
ITERATIONS = 100  # as in the paper's Table 3
SUFFIXES = {
    ".onnx": "onnxruntime",
    ".xml": "openvino",
    ".mnn": "mnn",
    ".param": "ncnn",
    ".pte": "executorch",
}
PACKAGES = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "mnn": "MNN",
    "ncnn": "ncnn",
    "executorch": "executorch",
}


def open_model(runtime: str, path: Path, threads: int = 1) -> Run:
    """Open a file for inference on the CPU, in float32.

    Args:
        runtime: Name of the runtime, a key of `OPENERS`.
        path: Path of the file.
        threads: Number of threads per inference.

    Returns:
        A function that takes float32 images `(B, 3, H, W)` and returns the outputs by name.

    Raises:
        ModuleNotFoundError: If the runtime is not installed.
    """
    return OPENERS[runtime](path, threads)


def open_onnx(path: Path, threads: int) -> Run:
    """Open a file with ONNX Runtime: all graph optimizations, and threads that spin (default)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: Any) -> Arrays:
        return dict(zip(names, session.run(names, {INPUT: images})))

    return run


def open_openvino(path: Path, threads: int) -> Run:
    """Open a file with OpenVINO, in float32: its default is bfloat16 if the CPU supports it."""
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

    def run(images: Any) -> Arrays:
        outputs = request.infer({INPUT: images}, share_inputs=True)
        return {port.any_name: value for port, value in outputs.items()}

    return run


def open_mnn(path: Path, threads: int) -> Run:
    """Open a file with MNN, in float32: without `precision` it computes in float16."""
    import MNN

    settings = {"backend": "CPU", "precision": "high", "numThread": threads}
    manager = MNN.nn.create_runtime_manager((settings,))
    # Loaded without names, a module reports the names of all its outputs.
    names = MNN.nn.load_module_from_file(str(path), [], []).get_info()["outputNames"]
    module = MNN.nn.load_module_from_file(str(path), [INPUT], names, runtime_manager=manager)

    def run(images: Any) -> Arrays:
        kind = MNN.expr.uint8 if images.dtype == np.uint8 else MNN.expr.float
        variable = MNN.expr.placeholder(list(images.shape), MNN.expr.NCHW, kind)
        variable.write(images)
        return dict(zip(names, map(values_of, module.onForward([variable]))))

    def values_of(output: Any) -> Any:
        if 0 in output.shape:  # no object was found; MNN cannot read empty outputs
            return np.zeros(output.shape, np.float32)
        # A copy, because MNN frees the memory together with the variable.
        return np.array(MNN.expr.convert(output, MNN.expr.NCHW).read())

    return run


def open_ncnn(path: Path, threads: int) -> Run:
    """Open a file with ncnn, in float32: its default is float16 where the CPU supports it."""
    import ncnn

    network = ncnn.Net()
    network.opt.num_threads = threads
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(network.opt, f"use_{name}", False)
    weights = str(path)[: -len(".param")] + ".bin"
    if network.load_param(str(path)) or network.load_model(weights):
        raise RuntimeError(f"ncnn cannot load {path}")
    (source,) = network.input_names()
    names = network.output_names()

    def run(images: Any) -> Arrays:
        extractor = network.create_extractor()
        extractor.input(source, ncnn.Mat(images[0]).clone())  # without the axis of the batch
        outputs = {name: extractor.extract(name) for name in names}
        if any(code for code, _ in outputs.values()):
            raise RuntimeError(f"ncnn cannot run {path}")
        return {name: np.array(output)[None] for name, (_, output) in outputs.items()}

    return run


def open_executorch(path: Path, threads: int) -> Run:
    """Open a file with ExecuTorch.

    Its threads are those of the process: files that were opened before with another number of
    threads must not run any more.
    """
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls itself experimental
        import torch  # the runtime's Python binding takes and returns its tensors
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

    if portable_lib._threadpool_get_thread_count() != threads:
        portable_lib._unsafe_reset_threadpool(threads)
    program = Runtime.get().load_program(path)
    (names,) = program.load_method("outputs").execute(())
    network = program.load_method("forward")

    def run(images: Any) -> Arrays:
        outputs = network.execute((torch.from_numpy(images),))
        return {name: each.numpy() for name, each in zip(json.loads(names), outputs)}

    return run


OPENERS: dict[str, Callable[[Path, int], Run]] = {
    "onnxruntime": open_onnx,
    "openvino": open_openvino,
    "mnn": open_mnn,
    "ncnn": open_ncnn,
    "executorch": open_executorch,
}


def take_turns(
    runs: Mapping[Any, Callable[[], object]], iterations: int, warmup: int = WARMUP
) -> dict[Any, list[float]]:
    """Time several inferences, interleaved: every round runs all of them in a new random order.

    Other work on the machine then affects all of them alike. Each timed run follows an untimed one
    of the same inference, so that the caches are as in a loop of only this inference, and no
    threads of the previous one are still active.

    Args:
        runs: Inferences by name.
        iterations: Number of timed rounds.
        warmup: Number of untimed rounds before them.

    Returns:
        The milliseconds of every iteration, by name.
    """
    times: dict[Any, list[float]] = {name: [] for name in runs}
    for turn in range(warmup + iterations):
        for name, run in random.sample(list(runs.items()), len(runs)):
            run()
            start = time.perf_counter()
            run()
            if turn >= warmup:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def summary(milliseconds: Sequence[float]) -> dict[str, float]:
    """Return the statistics of a model's times that are reported."""
    median, p90, p99 = np.percentile(milliseconds, (50, 90, 99)).tolist()
    return {
        "milliseconds": median,
        "milliseconds_p90": p90,
        "milliseconds_p99": p99,
        "milliseconds_min": min(milliseconds),
    }


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[list[int] | None]:
    """Pin this process to as many of its cores as it has threads, if the system supports it.

    The last cores are used: the first one handles the interrupts, and on processors with different
    kinds of cores the last ones are the fast ones.

    Yields:
        The indices of the cores; None if pinning is not supported.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before = os.sched_getaffinity(0)
    cores = sorted(before)[-threads:]
    keep_on(cores)
    try:
        yield cores
    finally:
        keep_on(before)


def keep_on(cores: Any) -> None:
    """Bind every existing thread to these cores; new threads inherit the setting."""
    tasks = Path("/proc/self/task")
    for thread in [int(each.name) for each in tasks.glob("*")] or [0]:
        with contextlib.suppress(OSError):  # the thread has ended
            os.sched_setaffinity(thread, cores)


def machine(threads: int, cores: Sequence[int] | None) -> dict[str, Any]:
    """Return the hardware and software that a measured time depends on.

    Args:
        threads: Number of threads per inference.
        cores: Indices of the cores that the process was pinned to.
    """
    first = cores[0] if cores else 0
    frequency = Path(f"/sys/devices/system/cpu/cpu{first}/cpufreq")
    return {
        "hardware/cpu": cpu_model(),
        "hardware/board": words_of(Path("/proc/device-tree/model")),
        "hardware/cores": os.cpu_count(),
        "hardware/threads": threads,
        "hardware/pinned_to": None if cores is None else list(cores),
        "hardware/governor": words_of(frequency / "scaling_governor"),
        "hardware/largest_khz": words_of(frequency / "cpuinfo_max_freq"),
        "system": platform.platform(),
        "python_version": platform.python_version(),
        "numpy_version": np.__version__,
        **{f"{name}_version": version_of(package) for name, package in PACKAGES.items()},
    }


def cpu_model() -> str:
    """Return the processor's name, as the system reports it."""
    # As in runs/environment.py: this file is copied to devices without the rest of the package.
    for line in (words_of(Path("/proc/cpuinfo")) or "").splitlines():
        if line.startswith(("model name", "Hardware")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def words_of(path: Path) -> str | None:
    """Return the text of a system file, None if there is no such file."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return None


def version_of(package: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def size_of(path: Path, otherwise: Sequence[int]) -> tuple[int, int]:
    """Return the image height and width at the end of a file's name, `...-256x192.onnx`."""
    found = re.findall(r"(\d+)x(\d+)", path.stem)
    height, width = found[-1] if found else otherwise
    return int(height), int(width)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Time exported models, interleaved, batch size 1.")
    parser.add_argument(
        "files", nargs="+", type=Path, help=f"exported files ({', '.join(SUFFIXES)})"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="threads per inference, default: %(default)s"
    )
    parser.add_argument(
        "--iterations", type=int, default=ITERATIONS, help="timed rounds, default: %(default)s"
    )
    parser.add_argument(
        "--warmup", type=int, default=WARMUP, help="untimed first rounds, default: %(default)s"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(256, 256),
        metavar=("HEIGHT", "WIDTH"),
        help="image size of files whose names do not end in it (-256x192), default: 256 256",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("latency.json"),
        help="JSON file to write, default: %(default)s",
    )
    given = parser.parse_args()
    for file in given.files:
        if file.suffix not in SUFFIXES or not file.is_file():
            parser.error(f"{file}: expected an existing file that ends in {', '.join(SUFFIXES)}")
        if version_of(package := PACKAGES[SUFFIXES[file.suffix]]) is None:
            parser.error(f"{file}: {package} is not installed. Fix: pip install {package}")
    if min(given.threads, given.iterations) < 1 or given.warmup < 0:
        parser.error("--threads and --iterations must be at least 1, --warmup at least 0")
    return given


def write_whole(path: Path, text: str) -> None:
    """Write a file atomically: it gets its name only when all of it is on disk."""
    # As in files.py, which is not on a device either.
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def main() -> None:
    """Time the files, print one line for each, and write a JSON file."""
    given = arguments()
    generator = np.random.default_rng(0)
    runs: dict[str, Callable[[], object]] = {}
    with pinned(given.threads) as cores:
        for file in given.files:
            images = generator.random((1, 3, *size_of(file, given.size)), dtype=np.float32)
            model = open_model(SUFFIXES[file.suffix], file, given.threads)
            try:
                model(images)
            except Exception as error:  # each runtime has errors of its own
                sys.exit(
                    f"error: {file}: it does not take float32 images {images.shape}: {error}. Fix: "
                    "export it with export.preprocess=false and data.channels=3"
                )
            runs[file.name] = lambda model=model, images=images: model(images)  # type: ignore[misc]
        times = take_turns(runs, given.iterations, given.warmup)
    results = {**machine(given.threads, cores), "iterations": given.iterations}
    print(f"{results['hardware/cpu']}, threads: {given.threads}, times in milliseconds")
    print(f"{'median':>9} {'p90':>9} {'p99':>9}  file")
    for name, each in times.items():
        statistics = summary(each)
        print(" ".join(f"{value:9.3f}" for value in list(statistics.values())[:3]), f" {name}")
        results.update({f"latency/{name}/{key}": value for key, value in statistics.items()})
    write_whole(given.output, json.dumps(results, indent=2) + "\n")
    print(f"results written to {given.output}")


if __name__ == "__main__":
    main()

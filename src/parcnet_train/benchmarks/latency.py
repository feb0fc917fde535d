"""Inference time per image of several networks in several runtimes, interleaved."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from parcnet_train.deploy import runtimes
from parcnet_train.deploy.bake.bake import bake
from parcnet_train.deploy.formats.int8.mnn import QuantizableMnn
from parcnet_train.deploy.formats.int8.onnx import QuantizableOnnx
from parcnet_train.deploy.formats.mnn import write_mnn
from parcnet_train.deploy.formats.onnx import record
from parcnet_train.deploy.formats.openvino import write_openvino
from parcnet_train.deploy.formats.packages import needed
from parcnet_train.deploy.runtimes import open_model, pinned, summary, take_turns
from parcnet_train.files import scratch_folder, write_whole
from parcnet_train.models.base import channels_of

Size = tuple[int, int]
Images = npt.NDArray[np.float32]

OUTPUT = "logits"
SCRIPT = "time_models.py"  # copied beside the files
EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino", "mnn": "mnn"}
RUNTIMES = ("pytorch", *EXTRAS)
# plain: all parts as they are trained; int8: baked, and calibrated on the timed image.
FORMS = ("baked", "plain", "int8")
INT8_RUNTIMES = ("onnxruntime", "mnn")


@dataclass(frozen=True)
class Candidate:
    """One network in one form and one runtime.

    Attributes:
        backbone: Name of the backbone's config.
        form: One of `FORMS`.
        runtime: One of `RUNTIMES`.
    """

    backbone: str
    form: str
    runtime: str

    def __str__(self) -> str:
        return f"{self.backbone}/{self.form}/{self.runtime}"


@dataclass(frozen=True)
class Latencies:
    """Results of the benchmark.

    Attributes:
        size: Height and width of the images, in pixels.
        milliseconds: Duration of every inference of one image, in milliseconds.
        differences: Largest difference between the logits and those of the network as it was
            trained, relative to the standard deviation of the latter.
        cores: Indices of the cores that the process was pinned to; None if it was not pinned.
    """

    size: Size
    milliseconds: dict[Candidate, list[float]]
    differences: dict[Candidate, float]
    cores: list[int] | None

    def results(self) -> Iterator[tuple[str, float]]:
        """Yield the entries of `results.json`."""
        for candidate, times in self.milliseconds.items():
            for name, value in summary(times).items():
                yield f"latency/{candidate}/{name}", value
            yield f"latency/{candidate}/difference", self.differences[candidate]


def time_networks(
    networks: Mapping[str, nn.Module],
    size: Size,
    candidates: Sequence[Candidate],
    folder: Path,
    threads: int = 1,
    iterations: int = runtimes.ITERATIONS,
    warmup: int = runtimes.WARMUP,
) -> Latencies:
    """Write all files, open them, and time them interleaved, one image at a time.

    Args:
        networks: Classifiers by name of their backbone.
        size: Height and width of the images, in pixels.
        candidates: Networks, forms and runtimes to time.
        folder: Folder for the files, and for the script that times them on other devices.
        threads: Number of threads per inference, on as many cores.
        iterations: Number of timed rounds.
        warmup: Number of untimed rounds before them.

    Raises:
        ConfigError: If a runtime is not installed.
        TrainingError: If a file cannot be converted or written.
    """
    for runtime in {each.runtime for each in candidates} - {"pytorch"}:
        needed(runtimes.PACKAGES[runtime], EXTRAS[runtime])
    images = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    expected = {name: run_network(each.eval(), images) for name, each in networks.items()}
    openers = {
        each: opener
        for name, network in networks.items()
        for form in dict.fromkeys(each.form for each in candidates if each.backbone == name)
        for each, opener in prepare(network, name, form, size, candidates, images, folder)
    }
    shutil.copyfile(runtimes.__file__, folder / SCRIPT)
    with pinned(threads) as cores, torch_threads(threads):
        runs = {each: partial(openers[each](threads), images) for each in candidates}
        differences = {
            each: difference(run()[OUTPUT], expected[each.backbone]) for each, run in runs.items()
        }
        milliseconds = take_turns(runs, iterations, warmup)
    return Latencies(size, milliseconds, differences, cores)


def prepare(
    network: nn.Module,
    backbone: str,
    form: str,
    size: Size,
    candidates: Sequence[Candidate],
    images: Images,
    folder: Path,
) -> Iterator[tuple[Candidate, Callable[[int], runtimes.Run]]]:
    """Write the files of one network in one form.

    Yields:
        A candidate, and the function that opens its file with a given number of threads.
    """
    wanted = {each.runtime for each in candidates if (each.backbone, each.form) == (backbone, form)}
    in_form = network if form == "plain" else bake(network, size)
    if "pytorch" in wanted:
        yield Candidate(backbone, form, "pytorch"), lambda _: partial(with_torch, in_form)
    if not wanted - {"pytorch"}:
        return
    suffix = "" if form == "baked" else f"-{form}"
    stem = f"{backbone}-classification{suffix}-{size[0]}x{size[1]}"
    files = {"onnxruntime": ".onnx", "openvino": ".xml", "mnn": ".mnn"}
    paths = {runtime: folder / f"{stem}{ending}" for runtime, ending in files.items()}
    write_network(in_form, size, paths["onnxruntime"], is_baked=form != "plain")
    if "openvino" in wanted:
        write_openvino(paths["onnxruntime"], paths["openvino"], {})
    if "mnn" in wanted:
        write_mnn(paths["onnxruntime"], paths["mnn"], {})
    if form == "int8":
        quantize(paths["onnxruntime"], QuantizableOnnx, images)
        if "mnn" in wanted:
            quantize(paths["mnn"], QuantizableMnn, images)
    for runtime in wanted - {"pytorch"}:
        yield Candidate(backbone, form, runtime), partial(open_model, runtime, paths[runtime])


def quantize(path: Path, form: type[QuantizableOnnx | QuantizableMnn], images: Images) -> None:
    """Replace a float32 file by its int8 version; for the speed, one calibration image suffices."""
    with scratch_folder() as scratch:
        form(path, [images], scratch).write(path)


def write_network(network: nn.Module, size: Size, path: Path, is_baked: bool = True) -> None:
    """Write a classifier as an ONNX file for one image of one size."""
    images = torch.zeros(1, channels_of(network), *size)
    model = record(network, images, [OUTPUT], dynamo=not is_baked)
    write_whole(path, model.SerializeToString())


def run_network(network: nn.Module, images: Images) -> npt.NDArray[np.float32]:
    """Return the logits of a torch network."""
    with torch.inference_mode():
        logits: npt.NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
    return logits


def with_torch(network: nn.Module, images: Any) -> runtimes.Arrays:
    """Return the logits of a torch network by name, as a file would."""
    return {OUTPUT: run_network(network, images)}


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Set the number of torch's threads within a context."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def difference(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Return the largest difference, relative to the standard deviation of `expected`."""
    return float(np.abs(found - expected).max() / expected.std())

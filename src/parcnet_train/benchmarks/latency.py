"""What an image takes, of several networks in several runtimes side by side."""

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
from parcnet_train.deploy.formats.mnn import write_mnn
from parcnet_train.deploy.formats.mnn_int8 import QuantizableMnn
from parcnet_train.deploy.formats.onnx import record
from parcnet_train.deploy.formats.onnx_int8 import QuantizableOnnx
from parcnet_train.deploy.formats.openvino import write_openvino
from parcnet_train.deploy.formats.packages import needed
from parcnet_train.deploy.runtimes import open_model, pinned, summary, take_turns
from parcnet_train.files import scratch_folder, write_whole

Size = tuple[int, int]
Images = npt.NDArray[np.float32]

OUTPUT = "logits"
SCRIPT = "time_models.py"  # beside the files
EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino", "mnn": "mnn"}
RUNTIMES = ("pytorch", *EXTRAS)
# plain: with all parts as they are trained; int8: baked, quantised with ranges of the timed images.
FORMS = ("baked", "plain", "int8")
INT8_RUNTIMES = ("onnxruntime", "mnn")


@dataclass(frozen=True)
class Candidate:
    """One network in one runtime.

    Attributes:
        backbone: its config's name.
        form: one of `FORMS`.
        runtime: one of `RUNTIMES`.
    """

    backbone: str
    form: str
    runtime: str

    def __str__(self) -> str:
        return f"{self.backbone}/{self.form}/{self.runtime}"


@dataclass(frozen=True)
class Latencies:
    """What was measured.

    Attributes:
        size: height and width of the images, in pixels.
        milliseconds: of every inference of one image.
        differences: largest one between logits and those of the network as it is trained, relative
            to their standard deviation.
        cores: that all of it ran on; None where that is left to the system.
    """

    size: Size
    milliseconds: dict[Candidate, list[float]]
    differences: dict[Candidate, float]
    cores: list[int] | None

    def results(self) -> Iterator[tuple[str, float]]:
        """Keys and values for `results.json`."""
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
    """Writes all files, opens them, and times all by turns, one image at a time.

    Args:
        networks: classifiers by backbone.
        size: height and width of the images, in pixels.
        candidates: what is timed.
        folder: for the files, and the script that times them elsewhere.
        threads: of one inference, on as many cores.
        iterations: turns.
        warmup: turns before.

    Raises:
        ConfigError: where a runtime is not installed.
        TrainingError: where a file cannot be converted or written.
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
    """Writes the files of one network in one form; what opens each takes a number of threads."""
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
    """Puts a file in int8 in the place of the one in float32; one image is enough for its speed."""
    with scratch_folder() as scratch:
        form(path, [images], scratch).write(path)


def write_network(network: nn.Module, size: Size, path: Path, is_baked: bool = True) -> None:
    """Writes a classifier as an ONNX file for one image of one size."""
    model = record(network, size, [OUTPUT], dynamo=not is_baked)
    write_whole(path, model.SerializeToString())


def run_network(network: nn.Module, images: Images) -> npt.NDArray[np.float32]:
    """Logits of a network of torch's."""
    with torch.inference_mode():
        logits: npt.NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
    return logits


def with_torch(network: nn.Module, images: Any) -> runtimes.Arrays:
    """The same by name, as of a file."""
    return {OUTPUT: run_network(network, images)}


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Gives torch so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def difference(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """The largest one, relative to the standard deviation of what is expected."""
    return float(np.abs(found - expected).max() / expected.std())

"""Files that are timed: networks in several forms, written for several runtimes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from parcnet_train.deploy.exportable import (
    ALL_VALUES,
    PRECISION,
    Exportable,
    FileOptions,
    Images,
    Scheme,
)
from parcnet_train.deploy.formats.formats import FORMATS, Format
from parcnet_train.deploy.formats.onnx import quietly
from parcnet_train.deploy.runtimes import SUFFIXES
from parcnet_train.deploy.standalone.workers import WorkerError
from parcnet_train.errors import ConfigError, TrainingError, UnwritableError, first_line
from parcnet_train.files import scratch_folder
from parcnet_train.models.model import Model
from parcnet_train.sizes import Size

log = logging.getLogger(__name__)

# Export format of each runtime: the one whose files it opens.
ENDINGS = {Path(f"file{form.suffixes[0]}").suffix: name for name, form in FORMATS.items()}
FORMAT_OF = {runtime: ENDINGS[suffix] for suffix, runtime in SUFFIXES.items()}
# Forms: baked; all parts as they are trained; baked and quantized.
BAKED, PLAIN, INT8 = "baked", "plain", "int8"
NEW_EXPORTER = "onnxscript"  # needed by torch's newer ONNX exporter, which unbaked networks need
INT8_RUNTIMES = [name for name, each in FORMAT_OF.items() if FORMATS[each].quantizable is not None]
OPTIONS = FileOptions(dynamic_batch=False)


@dataclass(frozen=True)
class Candidate:
    """One network in one form and one runtime.

    Attributes:
        backbone: Name of the backbone's config.
        form: `baked`, `plain` or `int8`.
        runtime: Name of the runtime, a key of `FORMAT_OF`.
    """

    backbone: str
    form: str
    runtime: str

    def __str__(self) -> str:
        return f"{self.backbone}/{self.form}/{self.runtime}"

    @property
    def format(self) -> Format:
        """Export format of the file."""
        return FORMATS[FORMAT_OF[self.runtime]]

    @property
    def precision(self) -> str:
        """Value of `export.precision` that writes such a file: float32 or int8."""
        return INT8 if self.form == INT8 else "float32"


@dataclass(frozen=True)
class Footprint:
    """Size, load time and memory of a file; see `standalone.workers.Models.footprint`."""

    bytes: int
    load_milliseconds: float
    peak_memory_bytes: int | None


def refuse_missing(candidates: Sequence[Candidate]) -> None:
    """Refuse runtimes that are not installed, with what writes their files.

    Raises:
        ConfigError: If a package is missing.
    """
    for each in candidates:
        target = each.format
        wanted = target.packages + target.runtime
        if each.form == INT8:
            wanted += target.quantizer
        if missing := [name for name in wanted if find_spec(name) is None]:
            raise ConfigError(
                f"benchmark.runtimes={each.runtime}: {', '.join(missing)} is not installed. Fix: "
                f"pip install 'parcnet-train[{FORMAT_OF[each.runtime]}]'"
            )
        if each.form == PLAIN and target.from_onnx and find_spec(NEW_EXPORTER) is None:
            raise ConfigError(
                f"benchmark.forms={PLAIN}: {NEW_EXPORTER} is not installed, which writes files of "
                f"benchmark.runtimes={each.runtime}. Fix: pip install {NEW_EXPORTER}"
            )


def write_files(
    networks: Mapping[str, Model],
    size: Size,
    candidates: Sequence[Candidate],
    folder: Path,
    calibration: Images,
    scheme: Scheme = ALL_VALUES,
    class_names: Sequence[str] = (),
    preparation: Mapping[str, Any] | None = None,
) -> dict[Candidate, Path]:
    """Write a file for each candidate; one that cannot be converted is logged, and left out.

    Args:
        networks: Networks in evaluation mode, by name of their backbone.
        size: Height and width of the images, in pixels.
        candidates: Networks, forms and runtimes.
        folder: Folder for the files; exported files in it are removed first.
        calibration: Images that give the ranges of values of int8.
        scheme: How int8 chooses them, in formats that know it.
        class_names: Names of the classes, for the metadata.
        preparation: How an image becomes the input, for the metadata; see `Predictor.about`.

    Returns:
        The path that a runtime opens, by candidate.

    Raises:
        ConfigError: If a package is not installed.
        UnwritableError: If the disk is full, or the like.
        TrainingError: If no network can be converted.
    """
    remove_files(folder)
    paths, exportables = {}, {}
    for each in candidates:
        key = (each.backbone, each.form != PLAIN)
        if key not in exportables:
            exportables[key] = Exportable(networks[each.backbone], size, is_baked=key[1])
        network = exportables[key]
        name = network.file_name(each.backbone, "" if each.form == BAKED else each.form)
        path = folder / f"{name}{each.format.suffixes[0]}"
        description = network.description(class_names, preparation)
        try:
            with quietly(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of networks as they were trained, tracing warns
                write_file(each, network, path, description, calibration, scheme)
        except UnwritableError:  # on a full disk, no other file can be written either
            raise
        except RuntimeError as error:  # torch's errors are RuntimeErrors too
            log.warning("%s is left out, since it cannot be written: %s", each, first_line(error))
        else:
            paths[each] = path
    if not paths:
        raise TrainingError("no file can be written. Fix: try another of benchmark.runtimes")
    return paths


def remove_files(folder: Path) -> None:
    """Remove the exported files of an earlier run, which the script would time too."""
    for suffix in {each for name in FORMAT_OF.values() for each in FORMATS[name].suffixes}:
        for file in folder.glob(f"*{suffix}"):
            file.unlink(missing_ok=True)


def write_file(
    candidate: Candidate,
    network: Exportable,
    path: Path,
    description: dict[str, str],
    calibration: Images,
    scheme: Scheme,
) -> None:
    """Write one file as `action=export` does; see `write_files`."""
    target = candidate.format
    description = {**description, PRECISION: candidate.precision}
    if target.from_onnx:
        description["opset"] = str(OPTIONS.opset)
    if candidate.form != INT8:
        target.write(network, path, description, OPTIONS)
        return
    assert target.quantizable is not None  # `INT8_RUNTIMES` have it
    with (
        target.in_float32(network, description, OPTIONS) as source,
        scratch_folder() as folder,
    ):
        target.quantizable(source, calibration, folder, scheme).write(path)


@contextmanager
def worker_faults() -> Iterator[None]:
    """Turn an error of a worker into one of this package.

    Raises:
        TrainingError: If a file cannot be run, or its process has ended.
    """
    try:
        yield
    except WorkerError as error:
        raise TrainingError(str(error)) from error

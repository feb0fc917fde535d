"""The formats that a network is exported to. A new one gets a row here, and in rules.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from parcnet_train.deploy.exportable import Images
from parcnet_train.deploy.formats.coreml import CoremlFile, count_coreml, write_coreml
from parcnet_train.deploy.formats.exported_program import ProgramFile, write_program
from parcnet_train.deploy.formats.mnn import MnnFile, count_mnn, write_mnn_network
from parcnet_train.deploy.formats.mnn_int8 import QuantizableMnn
from parcnet_train.deploy.formats.onnx import OnnxFile, write_onnx
from parcnet_train.deploy.formats.onnx_int8 import QuantizableOnnx
from parcnet_train.deploy.formats.openvino import (
    OpenvinoFile,
    count_openvino,
    write_openvino_network,
)
from parcnet_train.deploy.formats.operator_counts import count_onnx, count_program


class File(Protocol):
    """An exported file, run by its own runtime."""

    names: list[str]
    metadata: dict[str, str]

    def run(self, images: npt.NDArray[np.float32], /) -> dict[str, npt.NDArray[Any]]:
        """The outputs by name, of `(B, 3, H, W)` RGB images from 0 to 1."""


class Quantizable(Protocol):
    """A file in float32 that is to be quantised, see `QuantizableOnnx`."""

    images: Images

    @property
    def layers(self) -> Sequence[str]:
        """Names of what can be in int8 or not."""

    def write(self, path: Path, float_layers: Sequence[str] = (), /) -> None:
        """Writes the file in int8, but for some layers."""

    def sensitivities(self, images: Images, /) -> Iterator[tuple[str, float]]:
        """Each layer, and the outputs' ratio of signal to noise in decibels with it in int8."""


@dataclass(frozen=True)
class Format:
    """One of them.

    Attributes:
        suffixes: of what is written, files or a folder; the first is opened.
        write: takes an `Exportable`, the path, the description, and whether the batch is free.
        open: takes the path and a number of threads.
        count: operators of a file by name.
        decodes: whether objects can be made within the graph.
        tolerance: largest difference to torch, as a share of the output's standard deviation.
        batches: whether a file can take more than one image.
        macos_only: whether its runtime is nowhere else.
        quantizable: takes the path of a file, images for the ranges of its values, and an empty
            folder; None where there is no int8.
        knows_layers: whether some layers can be left out of that.
    """

    suffixes: tuple[str, ...]
    write: Callable[..., None]
    open: Callable[..., File]
    count: Callable[[Path], dict[str, int]]
    decodes: bool
    tolerance: float
    batches: bool = True
    macos_only: bool = False
    quantizable: Callable[[Path, Images, Path], Quantizable] | None = None
    knows_layers: bool = False

    def parts(self, path: Path) -> list[Path]:
        """All of it, of that which is opened."""
        return [path.with_suffix(suffix) for suffix in self.suffixes]


FORMATS = {
    "onnx": Format(
        *((".onnx",), write_onnx, OnnxFile, count_onnx),
        decodes=True,
        tolerance=1e-4,
        quantizable=QuantizableOnnx,
        knows_layers=True,
    ),
    "mnn": Format(
        *((".mnn",), write_mnn_network, MnnFile, count_mnn),
        decodes=False,
        tolerance=1e-3,
        quantizable=QuantizableMnn,
    ),
    "openvino": Format(
        *((".xml", ".bin"), write_openvino_network, OpenvinoFile, count_openvino),
        decodes=True,
        tolerance=1e-4,
    ),
    "torch_export": Format(
        (".pt2",), write_program, ProgramFile, count_program, decodes=False, tolerance=1e-4
    ),
    "coreml": Format(
        *((".mlpackage",), write_coreml, CoremlFile, count_coreml),
        decodes=False,
        tolerance=1e-3,
        batches=False,
        macos_only=True,
    ),
}


def verification_of(settings: Mapping[str, Any]) -> str:
    """How an export is verified: as `export.verify` says, else int8 by the metric where it can be.

    Args:
        settings: `export` of a configuration.
    """
    if settings["verify"] is not None:
        return settings["verify"]
    has_logits = not settings["argmax"] and not settings["decode"]
    return "metric" if settings["precision"] == "int8" and has_logits else "outputs"

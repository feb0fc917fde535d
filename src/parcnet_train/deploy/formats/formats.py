"""Table of the export formats.

A new format needs a row here and its name in `config/action_sections.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from parcnet_train.deploy.exportable import Exportable, FileOptions, Images, Scheme
from parcnet_train.deploy.formats.coreml import CoremlFile, count_coreml, write_coreml
from parcnet_train.deploy.formats.executorch import (
    ExecutorchFile,
    count_executorch,
    write_executorch,
    write_quantizable,
)
from parcnet_train.deploy.formats.exported_program import ProgramFile, write_program
from parcnet_train.deploy.formats.int8.executorch import QuantizableExecutorch
from parcnet_train.deploy.formats.int8.litert import QuantizableLitert
from parcnet_train.deploy.formats.int8.mnn import QuantizableMnn
from parcnet_train.deploy.formats.int8.onnx import QuantizableOnnx
from parcnet_train.deploy.formats.int8.openvino import QuantizableOpenvino
from parcnet_train.deploy.formats.litert import LitertFile, count_litert, write_litert
from parcnet_train.deploy.formats.mnn import MnnFile, count_mnn, write_mnn_network
from parcnet_train.deploy.formats.ncnn import SUFFIXES, NcnnFile, count_ncnn, write_ncnn
from parcnet_train.deploy.formats.onnx import OnnxFile, write_onnx
from parcnet_train.deploy.formats.openvino import (
    OpenvinoFile,
    count_openvino,
    write_openvino_network,
)
from parcnet_train.deploy.formats.operator_counts import count_onnx, count_program
from parcnet_train.files import scratch_folder


class File(Protocol):
    """Exported file, run by its own runtime."""

    names: list[str]
    metadata: dict[str, str]

    def run(self, images: npt.NDArray[Any], /) -> dict[str, npt.NDArray[Any]]:
        """Return the outputs by name, for images as the file takes them; see `as_input`."""


class Quantizable(Protocol):
    """File in float32 that can be quantized to int8; see `QuantizableOnnx`."""

    images: Images

    @property
    def layers(self) -> Sequence[str]:
        """Names of the layers that can be kept in float32."""

    def write(self, path: Path, float_layers: Sequence[str] = (), /) -> None:
        """Write the file in int8, except for some layers."""

    def sensitivities(self, images: Images, /) -> Iterator[tuple[str, float]]:
        """Yield each layer and the outputs' signal-to-noise ratio, in dB, if only it is in int8."""


@dataclass(frozen=True)
class Format:
    """Properties of an export format.

    Attributes:
        suffixes: Suffixes of the written files or folder; the first one is opened.
        write: Function that writes an `Exportable`; further arguments are the path, the
            description, and `FileOptions`.
        open: Function that opens a path with a number of threads.
        count: Function that counts the operators of a file by name.
        decodes: Whether the graph can contain NMS and output objects.
        tolerance: Largest accepted difference from torch, as a share of the standard deviation of
            the output.
        batches: Whether a file can take more than one image.
        takes_pixels: Whether a file can take uint8 images.
        argmaxes: Whether the graph can contain the choice of the class of a pixel.
        macos_only: Whether the runtime exists only on macOS.
        quantizable: Class that quantizes a file; its arguments are the path, the calibration
            images, an empty folder and the scheme. None if the format has no int8.
        write_quantizable: Function that writes the float32 file that `quantizable` takes; None:
            `write`.
        knows_layers: Whether int8 can keep single layers in float32.
        knows_ranges: Whether int8 can choose the ranges by a `Scheme`.
        from_onnx: Whether the file is an ONNX file or converted from one.
        halves: Whether weights can be stored as float16.
        has_script: Whether a script is written beside the file; see `standalone.write`.
        packages: Optional packages that write a file; the extra that installs them is called as the
            format.
        runtime: Further optional packages that run a file, or write it with fewer bits.
        quantizer: Further optional packages that write int8.
    """

    suffixes: tuple[str, ...]
    write: Callable[..., None]
    open: Callable[..., File]
    count: Callable[[Path], dict[str, int]]
    decodes: bool
    tolerance: float
    batches: bool = True
    takes_pixels: bool = True
    argmaxes: bool = True
    macos_only: bool = False
    quantizable: Callable[[Path, Images, Path, Scheme], Quantizable] | None = None
    write_quantizable: Callable[..., None] | None = None
    knows_layers: bool = False
    knows_ranges: bool = False
    from_onnx: bool = False
    halves: bool = True
    has_script: bool = False
    packages: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()
    quantizer: tuple[str, ...] = ()

    def parts(self, path: Path) -> list[Path]:
        """Return the paths of all parts of an export, given the path that is opened."""
        stem = path.name.removesuffix(self.suffixes[0])
        return [path.with_name(f"{stem}{suffix}") for suffix in self.suffixes]

    @contextmanager
    def in_float32(
        self, network: Exportable, description: dict[str, str], options: FileOptions
    ) -> Iterator[Path]:
        """Yield a temporary float32 file of a network, which `quantizable` takes.

        Args:
            network: Network to write.
            description: Metadata of the file.
            options: Settings of the file.
        """
        with scratch_folder() as folder:
            path = folder / f"network{self.suffixes[0]}"
            (self.write_quantizable or self.write)(network, path, description, options)
            yield path


FORMATS = {
    "onnx": Format(
        (".onnx",),
        write_onnx,
        OnnxFile,
        count_onnx,
        decodes=True,
        tolerance=1e-4,
        quantizable=QuantizableOnnx,
        knows_layers=True,
        knows_ranges=True,
        from_onnx=True,
        has_script=True,
        packages=("onnx",),
        runtime=("onnxruntime",),
    ),
    "mnn": Format(
        (".mnn",),
        write_mnn_network,
        MnnFile,
        count_mnn,
        decodes=True,
        tolerance=1e-3,
        quantizable=QuantizableMnn,
        from_onnx=True,
        has_script=True,
        packages=("MNN", "onnx"),
    ),
    "openvino": Format(
        (".xml", ".bin"),
        write_openvino_network,
        OpenvinoFile,
        count_openvino,
        decodes=True,
        tolerance=1e-4,
        quantizable=QuantizableOpenvino,
        knows_ranges=True,
        from_onnx=True,
        has_script=True,
        packages=("openvino", "onnx"),
        quantizer=("nncf",),
    ),
    "ncnn": Format(
        SUFFIXES,
        write_ncnn,
        NcnnFile,
        count_ncnn,
        decodes=False,
        tolerance=1e-4,
        batches=False,
        takes_pixels=False,
        argmaxes=False,
        packages=("ncnn", "pnnx"),
        has_script=True,
    ),
    "litert": Format(
        (".tflite",),
        write_litert,
        LitertFile,
        count_litert,
        decodes=True,
        tolerance=1e-4,
        batches=False,
        quantizable=QuantizableLitert,
        packages=("litert_torch", "ai_edge_litert"),
        quantizer=("ai_edge_quantizer",),
        has_script=True,
    ),
    "executorch": Format(
        (".pte",),
        write_executorch,
        ExecutorchFile,
        count_executorch,
        decodes=False,
        tolerance=1e-4,
        batches=False,
        quantizable=QuantizableExecutorch,
        write_quantizable=write_quantizable,
        halves=False,
        has_script=True,
        packages=("executorch",),
    ),
    "torch_export": Format(
        (".pt2",),
        write_program,
        ProgramFile,
        count_program,
        decodes=False,
        tolerance=1e-4,
        halves=False,
    ),
    "coreml": Format(
        (".mlpackage",),
        write_coreml,
        CoremlFile,
        count_coreml,
        decodes=False,
        tolerance=1e-3,
        batches=False,
        takes_pixels=False,
        macos_only=True,
        packages=("coremltools",),
    ),
}


def verification_of(verify: str | None, precision: str, has_logits: bool) -> str:
    """Return the verification of an export: `outputs`, `metric` or `none`.

    This is `export.verify`. If it is null, int8 and float16 files that output logits are verified
    by the metric of the task, and all other files by their outputs.

    Args:
        verify: Value of `export.verify`.
        precision: Value of `export.precision`.
        has_logits: Whether the file outputs logits, which the metric needs.
    """
    if verify is not None:
        return verify
    return "metric" if precision != "float32" and has_logits else "outputs"


def data_is_optional(settings: Mapping[str, Any]) -> bool:
    """Return whether an export can do without data: they are neither asked for nor needed.

    Args:
        settings: Section `export` of the configuration, as given.
    """
    needs_ranges = settings["precision"] == "int8" and settings["calibration"] is None
    return settings["verify"] is None and not needs_ranges

"""Core ML packages: converted from torch on any system, run only on macOS."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from parcnet_train.deploy.exportable import DEFAULTS, INPUT, Exportable, FileOptions
from parcnet_train.deploy.formats.packages import needed
from parcnet_train.deploy.runtimes import Arrays
from parcnet_train.files import scratch_folder, write_whole

LEFT_OUT = ("const",)  # operators that are not counted


def write_coreml(
    network: Exportable,
    path: Path,
    description: dict[str, str],
    options: FileOptions = DEFAULTS,
) -> None:
    """Write a network as a Core ML package, an ML program.

    A package takes one image: Core ML runs models with free shapes on slower hardware, and can
    itself process single images in batches.

    Args:
        network: Network to write.
        path: Path of the package, a folder.
        description: Metadata of the package.
        options: Settings of the file; the batch size is always one.

    Raises:
        ConfigError: If coremltools is not installed.
        TrainingError: If the package cannot be written.
    """
    coremltools = tools()
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        images = network.example()
        kinds = coremltools.precision
        precision = kinds.FLOAT16 if options.half else kinds.FLOAT32
        model = coremltools.convert(
            torch.jit.trace(network.eval(), images),  # type: ignore[no-untyped-call]
            convert_to="mlprogram",
            compute_precision=precision,
            inputs=[coremltools.TensorType(INPUT, images.shape)],
            outputs=[coremltools.TensorType(name) for name in network.names],
            skip_model_load=True,
        )
    model.user_defined_metadata.update(description)
    with scratch_folder() as folder:
        written = folder / path.name
        model.save(str(written))
        # Sorted, so that Manifest.json, which lists the other files, is written last.
        for part in sorted(written.rglob("*")):
            if part.is_file():
                write_whole(path / part.relative_to(written), part.read_bytes())


def count_coreml(path: Path) -> dict[str, int]:
    """Count the operators of an ML program by type, the most frequent ones first."""
    function = read(path).mlProgram.functions["main"]
    operators = function.block_specializations[function.opset].operations
    counted = Counter(each.type for each in operators if each.type not in LEFT_OUT)
    return dict(counted.most_common())


class CoremlFile:
    """Core ML package, run by Core ML on the CPU; works only on macOS.

    Args:
        path: Path of the package.
        threads: Ignored; Core ML chooses the number of threads.

    Raises:
        ConfigError: If coremltools is not installed.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        described = read(path).description
        self.metadata: dict[str, str] = dict(described.metadata.userDefined)
        self.names: list[str] = [each.name for each in described.output]
        unit = tools().ComputeUnit.CPU_ONLY
        self.model = tools().models.MLModel(str(path), compute_units=unit)

    def run(self, images: Any) -> Arrays:
        """Return the outputs for one image `(1, 3, H, W)`, by name."""
        return self.model.predict({INPUT: images})


def read(path: Path) -> Any:
    """Read the specification of a package; see coremltools' `Model.proto`."""
    return tools().utils.load_spec(str(path))


def tools() -> Any:
    """Import coremltools without its warnings about parts that this system does not support.

    Raises:
        ConfigError: If it is not installed.
    """
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    return needed("coremltools", "coreml")

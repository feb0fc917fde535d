"""Core ML packages: converted from torch on any system, run on macOS alone."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from parcnet_train.deploy.exportable import INPUT, Exportable
from parcnet_train.deploy.formats.packages import needed
from parcnet_train.deploy.runtimes import Arrays
from parcnet_train.files import scratch_folder, write_whole

LEFT_OUT = ("const",)  # of the census


def write_coreml(
    network: Exportable, path: Path, description: dict[str, str], dynamic_batch: bool = False
) -> None:
    """Writes a network as a Core ML package, an ML program in float32.

    Core ML puts models whose shapes are free on slower hardware, and makes batches of single images
    by itself.

    Args:
        network: to be written.
        path: of the package, a folder.
        description: for its metadata.
        dynamic_batch: has no effect, a package takes one image.

    Raises:
        ConfigError: where coremltools is not installed.
        TrainingError: where the disk does not take it.
    """
    coremltools = tools()
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        images = network.example()
        model = coremltools.convert(
            torch.jit.trace(network.eval(), images),  # type: ignore[no-untyped-call]
            convert_to="mlprogram",
            compute_precision=coremltools.precision.FLOAT32,
            inputs=[coremltools.TensorType(INPUT, images.shape)],
            outputs=[coremltools.TensorType(name) for name in network.names],
            skip_model_load=True,
        )
    model.user_defined_metadata.update(description)
    with scratch_folder() as folder:
        written = folder / path.name
        model.save(str(written))
        for part in sorted(written.rglob("*")):  # Manifest.json, which tells the others, is last
            if part.is_file():
                write_whole(path / part.relative_to(written), part.read_bytes())


def count_coreml(path: Path) -> dict[str, int]:
    """Operators of an ML program by type, the most frequent ones first."""
    function = read(path).mlProgram.functions["main"]
    operators = function.block_specializations[function.opset].operations
    counted = Counter(each.type for each in operators if each.type not in LEFT_OUT)
    return dict(counted.most_common())


class CoremlFile:
    """A Core ML package, run by Core ML on the CPU: on macOS alone.

    Args:
        path: of the package.
        threads: as many as Core ML takes, whatever is given.

    Raises:
        ConfigError: where coremltools is not installed.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        described = read(path).description
        self.metadata: dict[str, str] = dict(described.metadata.userDefined)
        self.names: list[str] = [each.name for each in described.output]
        unit = tools().ComputeUnit.CPU_ONLY
        self.model = tools().models.MLModel(str(path), compute_units=unit)

    def run(self, images: Any) -> Arrays:
        """The outputs by name, of one image `(1, 3, H, W)`."""
        return self.model.predict({INPUT: images})


def read(path: Path) -> Any:
    """What a package describes and computes; see coremltools' `Model.proto`."""
    return tools().utils.load_spec(str(path))


def tools() -> Any:
    """The package coremltools; it warns of every part of it that is for macOS, or for others.

    Raises:
        ConfigError: where it is not installed.
    """
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    return needed("coremltools", "coreml")

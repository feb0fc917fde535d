"""Files of torch.export: programs that torch runs without this package."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from parcnet_train.deploy.exportable import DEFAULTS, INPUT, Exportable, FileOptions
from parcnet_train.deploy.runtimes import Arrays
from parcnet_train.files import write_whole

DESCRIPTION = "description.json"  # inside the file
NAMES = "outputs"  # key in the description


def write_program(
    network: Exportable,
    path: Path,
    description: dict[str, str],
    options: FileOptions = DEFAULTS,
) -> None:
    """Write a network as a file for `torch.export.load`; the arguments are those of `write_onnx`.

    Raises:
        TrainingError: If the file cannot be written.
    """
    images = network.example()
    batch = {INPUT: {0: torch.export.Dim("batch", min=1)}} if options.dynamic_batch else None
    if options.dynamic_batch:  # torch specializes a batch of one to that size
        images = images.expand(2, -1, -1, -1).contiguous()
    program = torch.export.export(network.eval(), (images,), dynamic_shapes=batch)
    words = json.dumps({**description, NAMES: list(network.names)})
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={DESCRIPTION: words})
    write_whole(path, buffer.getvalue())


class ProgramFile:
    """A file of torch.export, run by torch on the CPU."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        texts = {DESCRIPTION: ""}
        self.module = torch.export.load(path, extra_files=texts).module()
        self.metadata: dict[str, str] = json.loads(texts[DESCRIPTION])
        self.names: list[str] = list(self.metadata[NAMES])

    def run(self, images: npt.NDArray[np.float32]) -> Arrays:
        """Return the outputs for `(B, 3, H, W)` images, by name."""
        with torch.no_grad():
            outputs = self.module(torch.from_numpy(images))
        return {name: each.numpy() for name, each in zip(self.names, outputs, strict=True)}

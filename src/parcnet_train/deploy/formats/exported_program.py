"""Files of torch.export: programs that torch runs without this package."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from parcnet_train.deploy.exportable import DEFAULTS, INPUT, Exportable, FileOptions
from parcnet_train.deploy.programs import DESCRIPTION, ProgramError, read_program
from parcnet_train.deploy.runtimes import open_model
from parcnet_train.errors import ExportError
from parcnet_train.files import write_whole

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
    """A file of torch.export, run by torch on the CPU.

    Args:
        path: Path of the file.
        threads: Not used; the threads are those of this process.

    Raises:
        ExportError: If the file has what `write_program` does not write.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        with refused(path):
            self.run = open_model("pytorch", path, threads)
        self.metadata = read_description(path)
        self.names: list[str] = list(self.metadata[NAMES])


def load_program(path: Path) -> torch.export.ExportedProgram:
    """Read a program without executing anything in its file, see `read_program`.

    Raises:
        ExportError: If the file has what `write_program` does not write.
    """
    with refused(path):
        program: torch.export.ExportedProgram = read_program(path)
    return program


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Turn the refusal of a file into an error for the user."""
    try:
        yield
    except ProgramError as error:
        raise ExportError(
            f"{path}: {error}. Fix: export the network again with export.format=torch_export"
        ) from error


def read_description(path: Path) -> dict[str, Any]:
    """Read the description that `write_program` stored in a file, which is a ZIP archive."""
    with zipfile.ZipFile(path) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(f"/{DESCRIPTION}"))
        description: dict[str, Any] = json.loads(archive.read(member))
    return description

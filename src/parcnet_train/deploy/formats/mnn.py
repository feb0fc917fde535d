"""MNN files: converted from ONNX by MNN's converter, without internet access, and run by MNN."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from parcnet_train.deploy.exportable import DEFAULTS, Exportable, FileOptions
from parcnet_train.deploy.formats.onnx import write_onnx
from parcnet_train.deploy.formats.operator_counts import count_onnx
from parcnet_train.deploy.formats.packages import needed
from parcnet_train.deploy.runtimes import open_model
from parcnet_train.errors import TrainingError
from parcnet_train.files import scratch_folder, write_whole

# Calls the tools directly. MNN's commands around them report every call to its developers.
TOOL = "import sys, _tools; getattr(_tools, sys.argv.pop(1))(sys.argv)"

# Keys of the metadata. MNN reorders the outputs of a file and does not list its operators, so both
# are stored here.
OUTPUTS, OPERATORS = "outputs", "onnx_operators"


def write_mnn_network(
    network: Exportable,
    path: Path,
    description: dict[str, str],
    options: FileOptions = DEFAULTS,
) -> None:
    """Write a network as an MNN file, by way of ONNX; the arguments are those of `write_onnx`.

    Raises:
        ConfigError: If MNN or onnx is not installed.
        TrainingError: If the converter fails or the file cannot be written.
    """
    with scratch_folder() as folder:
        onnx_file = folder / "network.onnx"
        write_onnx(network, onnx_file, description, replace(options, half=False))
        operators = json.dumps(count_onnx(onnx_file))
        metadata = {**description, OUTPUTS: json.dumps(list(network.names)), OPERATORS: operators}
        write_mnn(onnx_file, path, metadata, options.half)


def count_mnn(path: Path) -> dict[str, int]:
    """Return the operator counts, by type, of the ONNX file that an MNN file was converted from."""
    return json.loads(read_description(path)[OPERATORS])


class MnnFile:
    """MNN file of a network, run by MNN on the CPU.

    Args:
        path: Path of the file.
        threads: Number of threads per inference.

    Raises:
        ConfigError: If MNN is not installed.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.metadata = read_description(path)
        self.names: list[str] = json.loads(self.metadata[OUTPUTS])
        self.run = open_model("mnn", path, threads)


def write_mnn(source: Path, path: Path, description: Mapping[str, str], half: bool = False) -> None:
    """Convert an ONNX file, or rewrite an MNN file, and add a description.

    Args:
        source: ONNX file whose input is named `images`, or MNN file.
        path: Path of the new file.
        description: Metadata of the new file; `read_description` returns it.
        half: Whether the weights are stored as float16.

    Raises:
        ConfigError: If MNN is not installed.
        TrainingError: If the converter fails or the file cannot be written.
    """
    with scratch_folder() as folder:
        converted = folder / "model.mnn"
        fault = run_tool(
            "mnnconvert",
            converted,
            "-f",
            "MNN" if source.suffix == ".mnn" else "ONNX",
            "--modelFile",
            str(source),
            "--MNNModel",
            str(converted),
            "--bizCode",
            json.dumps(dict(description)),  # the only free text in a file
            *(["--fp16"] if half else []),
        )
        if fault:
            raise TrainingError(
                f"{source}: MNN cannot convert the file: {fault}. Fix: run the file with ONNX "
                "Runtime instead"
            )
        write_whole(path, converted.read_bytes())


def run_tool(name: str, made: Path, *arguments: str) -> str | None:
    """Call a tool of MNN in a separate process, since an error ends the tool's process.

    Args:
        name: Name of the tool, mnnconvert or mnnquant.
        made: Path of the file that the tool is expected to write.
        arguments: Arguments of its command line.

    Returns:
        None on success. If the tool fails or does not write the file, its last line of output.

    Raises:
        ConfigError: If MNN is not installed.
    """
    needed("MNN", "mnn")
    process = subprocess.run(
        [sys.executable, "-c", TOOL, name, *arguments],
        capture_output=True,
        text=True,
        errors="replace",
    )
    if process.returncode == 0 and made.is_file():
        return None
    said = [*process.stdout.splitlines(), *process.stderr.splitlines()]
    return next((line.strip() for line in reversed(said) if line.strip()), "it printed nothing")


def read_description(path: Path) -> dict[str, str]:
    """Read the description that `write_mnn` stored in a file.

    Raises:
        ConfigError: If MNN is not installed.
    """
    module = needed("MNN", "mnn").nn.load_module_from_file(str(path), [], [])
    return json.loads(module.get_info()["bizCode"])

"""MNN files: converted from ONNX by MNN's own converter, without a network; run by MNN."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from parcnet_train.deploy.exportable import Exportable
from parcnet_train.deploy.formats.onnx import write_onnx
from parcnet_train.deploy.formats.operator_counts import count_onnx
from parcnet_train.deploy.formats.packages import needed
from parcnet_train.deploy.runtimes import open_model
from parcnet_train.errors import TrainingError
from parcnet_train.files import scratch_folder, write_whole

# The tools themselves. MNN's commands around them report every call to its makers.
TOOL = "import sys, _tools; getattr(_tools, sys.argv.pop(1))(sys.argv)"

# Keys of the metadata: a file has its outputs in an order of its own, and its operators in no list.
OUTPUTS, OPERATORS = "outputs", "onnx_operators"


def write_mnn_network(
    network: Exportable, path: Path, description: dict[str, str], dynamic_batch: bool = True
) -> None:
    """Writes a network as an MNN file, by way of ONNX; arguments as for `write_onnx`.

    Raises:
        ConfigError: where MNN or onnx is not installed.
        TrainingError: where the converter fails, or the disk does not take the file.
    """
    with scratch_folder() as folder:
        onnx_file = folder / "network.onnx"
        write_onnx(network, onnx_file, description, dynamic_batch)
        operators = json.dumps(count_onnx(onnx_file))
        told = {**description, OUTPUTS: json.dumps(list(network.names)), OPERATORS: operators}
        write_mnn(onnx_file, path, told)


def count_mnn(path: Path) -> dict[str, int]:
    """Operators of the ONNX file that a network's MNN file was made of, by type."""
    return json.loads(read_description(path)[OPERATORS])


class MnnFile:
    """An MNN file of a network, run by MNN on the CPU.

    Args:
        path: of the file.
        threads: of one inference.

    Raises:
        ConfigError: where MNN is not installed.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.metadata = read_description(path)
        self.names: list[str] = json.loads(self.metadata[OUTPUTS])
        self.run = open_model("mnn", path, threads)


def write_mnn(source: Path, path: Path, description: Mapping[str, str]) -> None:
    """Converts an ONNX file, or writes a file of MNN's own tools again, with a description.

    Args:
        source: an ONNX file whose input is named `images`, or an MNN file.
        path: of the new file.
        description: for its metadata; `read_description` gives it back.

    Raises:
        ConfigError: where MNN is not installed.
        TrainingError: where the converter fails, or the disk does not take the file.
    """
    with scratch_folder() as folder:
        converted = folder / "model.mnn"
        fault = run_tool(
            "mnnconvert",
            converted,
            *("-f", "MNN" if source.suffix == ".mnn" else "ONNX"),
            *("--modelFile", str(source), "--MNNModel", str(converted)),
            *("--bizCode", json.dumps(dict(description))),  # the one word of a user in a file
        )
        if fault:
            raise TrainingError(
                f"{source} cannot be converted to MNN: {fault}; ONNX Runtime runs it as it is"
            )
        write_whole(path, converted.read_bytes())


def run_tool(name: str, made: Path, *arguments: str) -> str | None:
    """Calls a tool of MNN in a process of its own: what the tool dislikes ends it.

    Args:
        name: mnnconvert or mnnquant.
        made: the file that it is to make.
        arguments: of its command line.

    Returns:
        The last thing it said where there is no such file, or it was ended; else None.

    Raises:
        ConfigError: where MNN is not installed.
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
    return next((line.strip() for line in reversed(said) if line.strip()), "it says nothing")


def read_description(path: Path) -> dict[str, str]:
    """What `write_mnn` was told of a file.

    Raises:
        ConfigError: where MNN is not installed.
    """
    module = needed("MNN", "mnn").nn.load_module_from_file(str(path), [], [])
    return json.loads(module.get_info()["bizCode"])

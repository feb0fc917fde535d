"""MNN files: converted from ONNX by MNN's own converter, without a network."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from parcnet_train.deploy.packages import needed
from parcnet_train.errors import TrainingError
from parcnet_train.files import write_whole

# The converter itself. MNN's command around it reports every conversion to its makers.
CONVERTER = "import sys, _tools; _tools.mnnconvert(sys.argv)"


def write_mnn(onnx_file: Path, path: Path, description: Mapping[str, str]) -> None:
    """Converts an ONNX file, in a process of its own: what the converter dislikes ends it.

    Args:
        onnx_file: to be converted; its input is named `images`.
        path: of the new file.
        description: for its metadata; `read_description` gives it back.

    Raises:
        ConfigError: where MNN is not installed.
        TrainingError: where the converter fails, or the disk does not take the file.
    """
    needed("MNN", "mnn")
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / "model.mnn"
        process = subprocess.run(
            [
                *(sys.executable, "-c", CONVERTER, "-f", "ONNX"),
                *("--modelFile", str(onnx_file), "--MNNModel", str(converted)),
                *("--bizCode", json.dumps(dict(description))),  # the one word of a user in a file
            ],
            capture_output=True,
            text=True,
            errors="replace",
        )
        if process.returncode or not converted.is_file():
            said = [*process.stdout.splitlines(), *process.stderr.splitlines()]
            last = next(
                (line.strip() for line in reversed(said) if line.strip()), "it says nothing"
            )
            raise TrainingError(
                f"{onnx_file} cannot be converted to MNN: {last}; ONNX Runtime runs it as it is"
            )
        write_whole(path, converted.read_bytes())


def read_description(path: Path) -> dict[str, str]:
    """What `write_mnn` was told of a file.

    Raises:
        ConfigError: where MNN is not installed.
    """
    module = needed("MNN", "mnn").nn.load_module_from_file(str(path), [], [])
    return json.loads(module.get_info()["bizCode"])

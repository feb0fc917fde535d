"""OpenVINO files: an `.xml` for the graph and a `.bin` for the weights, converted from ONNX."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from parcnet_train.deploy.packages import needed
from parcnet_train.files import write_whole

OURS = "parcnet_train"  # section of the metadata


def write_openvino(onnx_file: Path, path: Path, description: Mapping[str, str]) -> None:
    """Converts an ONNX file, with weights in float32.

    Args:
        onnx_file: to be converted.
        path: of the new `.xml` file; the weights go beside it, into a `.bin` file.
        description: for its metadata; `read_description` gives it back.

    Raises:
        ConfigError: where OpenVINO is not installed.
        TrainingError: where the disk does not take it.
    """
    openvino = needed("openvino", "openvino")
    model = openvino.convert_model(onnx_file)
    for name, value in description.items():
        model.set_rt_info(value, [OURS, name])
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / path.name
        openvino.save_model(model, written, compress_to_fp16=False)
        for suffix in (".bin", ".xml"):  # the graph last: it is nothing without weights
            write_whole(path.with_suffix(suffix), written.with_suffix(suffix).read_bytes())


def read_description(path: Path) -> dict[str, str]:
    """What `write_openvino` was told of a file.

    Raises:
        ConfigError: where OpenVINO is not installed.
    """
    model = needed("openvino", "openvino").Core().read_model(path)
    section = model.get_rt_info([OURS]).value if model.has_rt_info([OURS]) else {}
    return {name: str(each) for name, each in section.items()}

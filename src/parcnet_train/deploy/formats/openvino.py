"""OpenVINO files: an `.xml` file with the graph and a `.bin` file with the weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from parcnet_train.deploy.exportable import DEFAULTS, Exportable, FileOptions
from parcnet_train.deploy.formats.onnx import write_onnx
from parcnet_train.deploy.formats.packages import needed
from parcnet_train.deploy.runtimes import open_model
from parcnet_train.files import scratch_folder, write_whole

OURS = "parcnet_train"  # section of the metadata
LEFT_OUT = ("Constant", "Parameter", "Result")  # not counted, since they compute nothing


def write_openvino_network(
    network: Exportable,
    path: Path,
    description: dict[str, str],
    options: FileOptions = DEFAULTS,
) -> None:
    """Write a network for OpenVINO, by way of ONNX; the arguments are those of `write_onnx`.

    Raises:
        ConfigError: If OpenVINO or onnx is not installed.
        TrainingError: If the files cannot be written.
    """
    needed("openvino", "openvino")
    with scratch_folder() as folder:
        onnx_file = folder / "network.onnx"
        write_onnx(network, onnx_file, description, replace(options, half=False))
        write_openvino(onnx_file, path, description, options.half)


def count_openvino(path: Path) -> dict[str, int]:
    """Count the operators of an OpenVINO file by type, the most frequent ones first."""
    operators = [each.get_type_name() for each in read(path).get_ops()]
    return dict(Counter(each for each in operators if each not in LEFT_OUT).most_common())


class OpenvinoFile:
    """OpenVINO file with its weights, run by OpenVINO on the CPU, in float32.

    Args:
        path: Path of the `.xml` file.
        threads: Number of threads per inference.

    Raises:
        ConfigError: If OpenVINO is not installed.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.metadata = read_description(path)
        self.names: list[str] = [each.any_name for each in read(path).outputs]
        self.run = open_model("openvino", path, threads)


def write_openvino(
    onnx_file: Path, path: Path, description: Mapping[str, str], half: bool = False
) -> None:
    """Convert an ONNX file.

    The result is that of `openvino.convert_model`, which is not used because it reports every
    conversion to its developers.

    Args:
        onnx_file: Path of the ONNX file.
        path: Path of the new `.xml` file; the weights are written to a `.bin` file beside it.
        description: Metadata of the new file; `read_description` returns it.
        half: Whether the weights are stored as float16.

    Raises:
        ConfigError: If OpenVINO is not installed.
        TrainingError: If a file cannot be written.
    """
    transformations = needed("openvino._offline_transformations", "openvino")
    model = read(onnx_file)
    transformations.apply_moc_transformations(model, cf=False, smart_reshape=True)
    save(model, path, description, half)


def save(model: Any, path: Path, description: Mapping[str, str], half: bool = False) -> None:
    """Write a model of OpenVINO with a description; see `write_openvino`.

    Raises:
        TrainingError: If a file cannot be written.
    """
    for name, value in description.items():
        model.set_rt_info(value, [OURS, name])
    with scratch_folder() as folder:
        written = folder / path.name
        needed("openvino", "openvino").save_model(model, written, compress_to_fp16=half)
        for suffix in (".bin", ".xml"):  # the graph last, since it needs the weights
            write_whole(path.with_suffix(suffix), written.with_suffix(suffix).read_bytes())


def read_description(path: Path) -> dict[str, str]:
    """Read the description that `write_openvino` stored in a file.

    Raises:
        ConfigError: If OpenVINO is not installed.
    """
    model = read(path)
    section = model.get_rt_info([OURS]).value if model.has_rt_info([OURS]) else {}
    return {name: str(each) for name, each in section.items()}


def read(path: Path) -> Any:
    """Read a file as an OpenVINO model."""
    return needed("openvino", "openvino").Core().read_model(path)

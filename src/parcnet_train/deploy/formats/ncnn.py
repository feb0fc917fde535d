"""ncnn files: a `.ncnn.param` file with the graph and a `.ncnn.bin` file with the weights."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

from parcnet_train.deploy.exportable import DEFAULTS, INPUT, Exportable, FileOptions
from parcnet_train.deploy.formats.packages import needed
from parcnet_train.deploy.runtimes import open_model
from parcnet_train.errors import TrainingError
from parcnet_train.files import scratch_folder, write_whole

INPUT_OF_PNNX = "in0"
OUTPUTS = "outputs"  # key of the metadata: ncnn lists the outputs in any order
SUFFIXES = (".ncnn.param", ".ncnn.bin")
HEAD = 2  # lines before the layers: a magic number, and the numbers of layers and of blobs
# First word of the last line. ncnn reads as many layers as the second line says, and no further.
MARK = "#parcnet_train "
LEFT_OUT = ("Input", "Split", "MemoryData", "Noop")  # not counted, since they compute nothing


def write_ncnn(
    network: Exportable,
    path: Path,
    description: dict[str, str],
    options: FileOptions = DEFAULTS,
) -> None:
    """Write a network for ncnn, converted from TorchScript by pnnx, and load it once.

    A file takes one image. pnnx ends without an error also if ncnn cannot load what it wrote.

    Args:
        network: Network to write.
        path: Path of the `.ncnn.param` file.
        description: Metadata of the file.
        options: Settings of the file; the batch size is always one.

    Raises:
        ConfigError: If ncnn or pnnx is not installed.
        TrainingError: If the network cannot be converted, or a file cannot be written.
    """
    tool = needed("pnnx", "ncnn").EXEC_PATH
    with scratch_folder() as folder:
        images = network.example()
        traced = torch.jit.trace(network.eval(), images)  # type: ignore[no-untyped-call]
        traced.save(str(folder / "network.pt"))
        shape = json.dumps(list(images.shape)).replace(" ", "")
        process = subprocess.run(
            [tool, "network.pt", f"inputshape={shape}", f"fp16={int(options.half)}"],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
        )
        graph, weights = (folder / f"network{suffix}" for suffix in SUFFIXES)
        try:
            open_model("ncnn", graph)(images.numpy())
        except (OSError, RuntimeError) as error:
            told = [*process.stdout.splitlines(), *process.stderr.splitlines()]
            reason = next((each for each in told if "not supported" in each), str(error))
            raise TrainingError(
                f"{path}: ncnn cannot run the converted network: {reason}. Fix: use another format"
            ) from error
        names = {INPUT_OF_PNNX: INPUT}
        names |= {f"out{place}": name for place, name in enumerate(network.names)}
        text = renamed(graph.read_text(), names)
        metadata = {**description, OUTPUTS: json.dumps(list(network.names))}
        # The graph last, since it needs the weights.
        write_whole(
            Path(f"{str(path).removesuffix(SUFFIXES[0])}{SUFFIXES[1]}"), weights.read_bytes()
        )
        write_whole(path, f"{text}{MARK}{json.dumps(metadata)}\n".encode())


def renamed(graph: str, names: Mapping[str, str]) -> str:
    """Return the text of a graph with other names of its inputs and outputs."""
    return "\n".join(
        " ".join(names.get(word, word) for word in line.split(" ")) for line in graph.split("\n")
    )


def count_ncnn(path: Path) -> dict[str, int]:
    """Count the layers of an ncnn file by type, the most frequent ones first."""
    layers = [line.split()[0] for line in lines_of(path)[HEAD:] if not line.startswith(MARK)]
    return dict(Counter(each for each in layers if each not in LEFT_OUT).most_common())


class NcnnFile:
    """ncnn file with its weights, run by ncnn on the CPU, in float32.

    Args:
        path: Path of the `.ncnn.param` file.
        threads: Number of threads per inference.

    Raises:
        ConfigError: If ncnn is not installed.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        needed("ncnn", "ncnn")
        last = lines_of(path)[-1]
        self.metadata: dict[str, str] = json.loads(last.removeprefix(MARK))
        self.run = open_model("ncnn", path, threads)
        self.names: list[str] = json.loads(self.metadata[OUTPUTS])


def lines_of(path: Path) -> list[str]:
    """Return the lines of a graph that are not empty."""
    return [line for line in path.read_text().splitlines() if line.strip()]

"""ExecuTorch files: programs of torch.export for phones, computed by XNNPACK."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parcnet_train.deploy.bake.products import with_products
from parcnet_train.deploy.exportable import DEFAULTS, Exportable, FileOptions
from parcnet_train.deploy.formats.exported_program import write_program
from parcnet_train.deploy.formats.onnx import quietly
from parcnet_train.deploy.formats.packages import needed
from parcnet_train.deploy.runtimes import open_model
from parcnet_train.errors import TrainingError, UnwritableError, first_line
from parcnet_train.files import scratch_folder, write_whole

OUTPUTS = "outputs"  # key of the metadata: a file numbers its outputs
FORWARD = "forward"  # method of the network; every other method returns an entry of the metadata
XNNPACK = "executorch.backends.xnnpack"


def write_executorch(
    network: Exportable,
    path: Path,
    description: dict[str, str],
    options: FileOptions = DEFAULTS,
) -> None:
    """Write a network for ExecuTorch, and run the file once.

    A file takes one image. The entries of its metadata are methods that return text.

    Args:
        network: Network to write.
        path: Path of the file.
        description: Metadata of the file.
        options: Not used: the batch size is one, and the weights are float32.

    Raises:
        ConfigError: If ExecuTorch is not installed.
        TrainingError: If the network cannot be converted, or the file cannot be written.
    """
    metadata = {**description, OUTPUTS: json.dumps(list(network.names))}
    write_lowered(with_products(network).eval(), network.example(), path, metadata)


def write_quantizable(
    network: Exportable,
    path: Path,
    description: dict[str, str],
    options: FileOptions = DEFAULTS,
) -> None:
    """Write a network as a file of torch.export that can be quantized for ExecuTorch.

    The arguments are those of `write_executorch`.

    Raises:
        TrainingError: If the file cannot be written.
    """
    write_program(with_products(network), path, description, options)


def write_lowered(
    module: nn.Module, images: Tensor, path: Path, metadata: Mapping[str, str]
) -> None:
    """Write a module, lowered to XNNPACK; operators that XNNPACK lacks stay ExecuTorch's own.

    Args:
        module: Module in evaluation mode that takes `images` and returns a tuple of tensors.
        images: Input for tracing; the file takes only inputs of this shape and type.
        path: Path of the file.
        metadata: Metadata of the file, including the names of the outputs as JSON.

    Raises:
        ConfigError: If ExecuTorch is not installed.
        TrainingError: If the module cannot be converted, or the file cannot be written.
    """
    with silently():
        exir = needed("executorch.exir", "executorch")
        partition = needed(f"{XNNPACK}.partition.xnnpack_partitioner", "executorch")
        passes = needed(f"{XNNPACK}.utils.configs", "executorch").get_transform_passes()
        with reported(path), scratch_folder() as folder:
            program = exir.to_edge_transform_and_lower(
                torch.export.export(module, (images,)),
                transform_passes=passes,
                partitioner=[partition.XnnpackPartitioner()],
                constant_methods=dict(metadata),
            ).to_executorch()
            content = bytes(program.buffer)
            # The conversion succeeds even if the runtime lacks an operator.
            tried = folder / "network.pte"
            write_whole(tried, content)
            open_model("executorch", tried)(images.numpy())
    write_whole(path, content)


@contextlib.contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn an error of a conversion into one line.

    Raises:
        UnwritableError: If a file cannot be written.
        TrainingError: If anything else is raised: the passes of torch and ExecuTorch have no common
            error.
    """
    try:
        yield
    except UnwritableError:
        raise
    except Exception as error:
        raise TrainingError(
            f"{path}: ExecuTorch cannot convert the network: {first_line(error)}. Fix: use another "
            "format"
        ) from error


@contextlib.contextmanager
def silently() -> Iterator[None]:
    """Silence the warnings of ExecuTorch and torchao, which concern their own code."""
    with quietly(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def count_executorch(path: Path) -> dict[str, int]:
    """Count the operators of a file by type, the most frequent ones first.

    Returns:
        Operators that XNNPACK computes, by their names there (`XNNConv2d`), and operators that
        ExecuTorch computes itself (`aten::mean`).
    """
    with silently():
        binary = needed("executorch.exir._serialize._program", "executorch")
    program = binary.deserialize_pte_binary(path.read_bytes()).program
    (plan,) = (each for each in program.execution_plan if each.name == FORWARD)
    calls = [each.instr_args for chain in plan.chains for each in chain.instructions]
    own = [plan.operators[call.op_index].name for call in calls if hasattr(call, "op_index")]
    blobs = (program.backend_delegate_data[each.processed.index].data for each in plan.delegates)
    return dict(Counter([*own, *(name for blob in blobs for name in names_in(blob))]).most_common())


def names_in(blob: bytes) -> list[str]:
    """Return the names of the operators in a graph of XNNPACK."""
    with silently():
        graphs = needed(f"{XNNPACK}.serialization.xnnpack_graph_serialize", "executorch")
        buffers = needed("executorch.exir._serialize._flatbuffer", "executorch")
    header = graphs.XNNHeader.from_bytes(blob[: graphs.XNNHeader.EXPECTED_LENGTH])
    start = header.flatbuffer_offset
    with scratch_folder() as folder:
        schema, graph = folder / "schema.fbs", folder / "graph.bin"
        schema.write_bytes(graphs._get_schema_bytes())
        graph.write_bytes(blob[start : start + header.flatbuffer_size])
        buffers._flatc_decompile(str(folder), str(schema), str(graph), ["--raw-binary"])
        # Not read as JSON: infinite limits of operators are not valid there.
        text = (folder / "graph.json").read_text()
    return re.findall(r'"xnode_union_type": "(\w+)"', text)


class ExecutorchFile:
    """ExecuTorch file, run by ExecuTorch on the CPU.

    Args:
        path: Path of the file.
        threads: Number of threads per inference; see `runtimes.open_executorch`.

    Raises:
        ConfigError: If ExecuTorch is not installed.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.metadata = read_description(path)
        self.names: list[str] = json.loads(self.metadata[OUTPUTS])
        self.run = open_model("executorch", path, threads)


def read_description(path: Path) -> dict[str, str]:
    """Read the metadata of a file.

    Raises:
        ConfigError: If ExecuTorch is not installed.
    """
    with silently():
        runtime: Any = needed("executorch.runtime", "executorch").Runtime.get()
    program = runtime.load_program(path)
    names = sorted(program.method_names - {FORWARD})
    return {name: program.load_method(name).execute(())[0] for name in names}

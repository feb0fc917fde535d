"""LiteRT files (`.tflite`): converted from torch.export by litert-torch, and run by LiteRT."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from parcnet_train.deploy.bake.products import with_products
from parcnet_train.deploy.exportable import DEFAULTS, INPUT, Exportable, FileOptions
from parcnet_train.deploy.formats.litert_graph import (
    CANDIDATES,
    described,
    description_of,
    operators_of,
    with_suppression,
)
from parcnet_train.deploy.formats.packages import needed
from parcnet_train.deploy.runtimes import open_model
from parcnet_train.errors import TrainingError, first_line
from parcnet_train.files import write_whole

OUTPUTS = "outputs"  # key of the metadata: LiteRT lists the outputs in any order


def write_litert(
    network: Exportable,
    path: Path,
    description: dict[str, str],
    options: FileOptions = DEFAULTS,
) -> None:
    """Write a network as a LiteRT file, which takes one image.

    Args:
        network: Network to write.
        path: Path of the file.
        description: Metadata of the file.
        options: Settings of the file; the batch size is always one.

    Raises:
        ConfigError: If litert-torch is not installed.
        TrainingError: If the network cannot be converted, or the file cannot be written.
    """
    with silent():
        litert_torch = needed("litert_torch", "litert")
        litert_torch.config.show_progress = False
        named, example = Named(with_products(network)).eval(), {INPUT: network.example()}
        try:
            model = litert_torch.convert(named, sample_kwargs=example)
            content: bytes = model.model_content()
        except Exception as error:  # it has no errors of its own
            raise TrainingError(
                f"{path}: LiteRT cannot convert the network: {first_line(error)}. Fix: use another "
                "format"
            ) from error
        if network.decoding is not None:
            with torch.no_grad():
                classes = len(network(network.example())[0])
            content = with_suppression(content, network.decoding, classes)
        if options.half:
            content = with_half_weights(content)
        metadata = {**description, OUTPUTS: json.dumps(list(network.names))}
        write_whole(path, described(content, metadata))


class Named(nn.Module):
    """Network whose outputs have names, those of a detector's objects ready for NMS."""

    def __init__(self, network: Exportable) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Run the network; see `with_suppression` for the outputs of a detector that decodes."""
        outputs = self.network(images)
        if self.network.decoding is None:
            return dict(zip(self.network.names, outputs, strict=True))
        boxes, scores = outputs
        # Boxes lie within 0 and 1.
        apart = boxes + 2 * torch.arange(len(boxes), dtype=boxes.dtype)[:, None, None]
        parts = boxes.flatten(0, 1), apart.flatten(0, 1), scores.flatten()
        return dict(zip(CANDIDATES, parts, strict=True))


def with_half_weights(content: bytes) -> bytes:
    """Return a file whose weights are float16; what is computed stays float32."""
    types = needed("ai_edge_quantizer.qtyping", "litert")
    quantizer = needed("ai_edge_quantizer.quantizer", "litert")
    halving = quantizer.Quantizer(content)
    halving.update_quantization_recipe(
        ".*",
        types.TFLOperationName.ALL_SUPPORTED,
        types.OpQuantizationConfig(
            weight_tensor_config=types.TensorQuantizationConfig(
                num_bits=16, dtype=types.TensorDataType.FLOAT
            ),
            compute_precision=types.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        quantizer.AlgorithmName.FLOAT_CASTING,
    )
    return bytes(halving.quantize(enable_progress_report=False).quantized_model)


def count_litert(path: Path) -> dict[str, int]:
    """Count the operators of a LiteRT file by type, the most frequent ones first."""
    return operators_of(path.read_bytes())


class LitertFile:
    """LiteRT file, run by LiteRT on the CPU.

    Args:
        path: Path of the file.
        threads: Number of threads per inference.

    Raises:
        ConfigError: If ai-edge-litert is not installed.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.metadata = description_of(path.read_bytes())
        self.names: list[str] = json.loads(self.metadata[OUTPUTS])
        with silent():
            run = open_model("litert", path, threads)
        self.run = lambda images: {name: run(images)[name] for name in self.names}


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Silence the libraries of the conversion, which print, log and warn in Python and in C++."""
    before, errors = logging.root.manager.disable, os.dup(2)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere:
            warnings.simplefilter("ignore")
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(errors, 2)
        os.close(errors)
        logging.disable(before)

"""int8: an ONNX file whose layers compute with 8-bit integers, made by ONNX Runtime's quantiser."""

from __future__ import annotations

import contextlib
import fnmatch
import logging
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from parcnet_train.deploy.exportable import INPUT, PRECISION, Images
from parcnet_train.deploy.formats.onnx import OnnxFile
from parcnet_train.deploy.formats.packages import needed
from parcnet_train.errors import ConfigError
from parcnet_train.files import write_whole

LAYERS = ("Conv", "Gemm", "MatMul")
# ONNX Runtime computes it in float32 anyway, where int8 weights are nothing but less exact.
FLOAT = ("LayerNormalization",)
SILENCE = 200.0  # decibels, above what float32 resolves: no noise at all


class Reader:
    """Images, one by one, as ONNX Runtime's quantiser asks for them."""

    def __init__(self, images: Images) -> None:
        self.images = iter(images)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """The next one by the input's name, None behind the last."""
        image = next(self.images, None)
        return None if image is None else {INPUT: image}


class QuantizableOnnx:
    """An ONNX file in float32 that is to be quantised, once or several times.

    Weights become int8, symmetric, with a scale for every output channel. What operators hand on
    becomes uint8, from the smallest to the largest value that any of the images gives; these
    ranges are looked for once. Operators behind the last layer keep float32: softmax, boxes,
    enlarged maps.

    Args:
        path: of the file.
        images: for the ranges, `(1, 3, H, W)` RGB from 0 to 1 each.
        folder: for files in between, an empty one.

    Attributes:
        layers: names of convolutions and products of matrices, in the order of the graph.

    Raises:
        ConfigError: where onnx or onnxruntime is not installed.
    """

    def __init__(self, path: Path, images: Images, folder: Path) -> None:
        onnx = needed("onnx", "onnx")
        self.images = images
        self.prepared, self.ranges = folder / "prepared.onnx", folder / "ranges.json"
        self.quantized = folder / "quantized.onnx"
        self.metadata = {each.key: each.value for each in onnx.load(str(path)).metadata_props}
        needed("onnxruntime.quantization.shape_inference", "onnx").quant_pre_process(
            str(path), str(self.prepared), skip_symbolic_shape=True
        )
        self.nodes = list(onnx.load(str(self.prepared)).graph.node)
        self.layers = [node.name for node in self.nodes if node.op_type in LAYERS]

    def write(self, path: Path, float_layers: Sequence[str] = ()) -> None:
        """Writes the file in int8.

        Args:
            path: of the new file.
            float_layers: names of layers that keep float32, or patterns (`*/mixer/*`).

        Raises:
            ConfigError: where a name is that of no layer.
            TrainingError: where the disk does not take it.
        """
        onnx = needed("onnx", "onnx")
        kept = {name for each in float_layers for name in self.named(each)}
        kept.update(node.name for node in self.nodes if node.op_type in FLOAT)
        self.quantize(in_front_of(self.nodes, self.layers) - kept)
        model = onnx.load(str(self.quantized))
        onnx.helper.set_model_props(model, {**self.metadata, PRECISION: "int8"})
        write_whole(path, model.SerializeToString())

    def sensitivities(self, images: Images) -> Iterator[tuple[str, float]]:
        """How much each layer alone, in int8, changes the outputs.

        Args:
            images: on which that is seen, as for the ranges.

        Yields:
            The layer's name, and the ratio of signal to noise in decibels, 10 log10 of the outputs'
            variance by the mean square of their change; of several outputs the least.
        """
        expected = outputs_of(self.prepared, images)
        for layer in self.layers:
            self.quantize({layer})
            found = outputs_of(self.quantized, images)
            yield layer, min(map(signal_to_noise, expected, found))

    def quantize(self, names: Collection[str]) -> None:
        """Writes `quantized` with these operators in int8."""
        onnxruntime = needed("onnxruntime.quantization", "onnx")
        with quietly():
            onnxruntime.quantize_static(
                str(self.prepared),
                str(self.quantized),
                Reader(self.images),
                activation_type=onnxruntime.QuantType.QUInt8,
                weight_type=onnxruntime.QuantType.QInt8,
                per_channel=True,
                nodes_to_quantize=sorted(names),
                calibration_cache_path=self.ranges,
            )

    def named(self, pattern: str) -> list[str]:
        """The layers that a name or a pattern means.

        Raises:
            ConfigError: where it is none.
        """
        names = fnmatch.filter(self.layers, pattern)
        if not names:
            raise ConfigError(
                f"export.float_layers={pattern}: no layer is called so; allowed are patterns and "
                f"names such as {self.layers[0]}: export.sensitivity=true lists them"
            )
        return names


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the quantiser's messages, one for many a constant, which go to everybody's logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def in_front_of(nodes: Sequence[Any], layers: Collection[str]) -> set[str]:
    """Names of the layers, and of all operators whose outputs reach one of them.

    Args:
        nodes: of an ONNX graph, in its order.
        layers: names of some of them.
    """
    names: set[str] = set()
    needed_values: set[str] = set()
    for node in reversed(nodes):
        if node.name in layers or needed_values.intersection(node.output):
            names.add(node.name)
            needed_values.update(node.input)
    return names


def outputs_of(path: Path, images: Images) -> list[npt.NDArray[np.float64]]:
    """Every output of a file, of all images."""
    file = OnnxFile(path)
    runs = [file.run(image) for image in images]
    return [np.concatenate([each[name] for each in runs]).astype(np.float64) for name in file.names]


def signal_to_noise(expected: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> float:
    """Ratio of signal to noise, in decibels, from -`SILENCE` to `SILENCE`."""
    signal, noise = float(expected.var()), float(((found - expected) ** 2).mean())
    if signal == 0 or noise == 0:
        return -SILENCE if noise else SILENCE
    return float(np.clip(10 * math.log10(signal / noise), -SILENCE, SILENCE))

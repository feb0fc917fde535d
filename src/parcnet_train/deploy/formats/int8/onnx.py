"""ONNX files in int8, quantized by ONNX Runtime and calibrated on images."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from parcnet_train.deploy.exportable import ALL_VALUES, INPUT, PRECISION, Images, Scheme, as_input
from parcnet_train.deploy.formats.onnx import OnnxFile, quietly
from parcnet_train.deploy.formats.packages import needed
from parcnet_train.errors import ConfigError
from parcnet_train.files import write_whole

LAYERS = ("Conv", "Gemm", "MatMul")
# ONNX Runtime computes it in float32 in any case, so int8 weights would only lose accuracy.
FLOAT = ("LayerNormalization",)
SILENCE = 200.0  # dB, beyond the precision of float32; stands for no noise at all


class Reader:
    """Calibration images in the form that ONNX Runtime's quantizer reads them, one at a time."""

    def __init__(self, images: Images, metadata: Mapping[str, str]) -> None:
        self.images, self.metadata = images, metadata
        self.set_range(0, len(images))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Start anew with a part of the images; the quantizer names the arguments."""
        self.range = iter(range(start_index, end_index))

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        """Return the next image by the input's name, None after the last one."""
        place = next(self.range, None)
        return None if place is None else {INPUT: as_input(self.images[place], self.metadata)}


class QuantizableOnnx:
    """ONNX file in float32 that can be quantized, once or several times.

    Weights become int8, symmetric, with one scale per output channel. Activations become uint8, or
    symmetric int8; their ranges are computed only once. Operators after the last layer stay in
    float32: softmax, boxes, upsampled maps.

    Args:
        path: Path of the file.
        images: Calibration images, each `(1, 3, H, W)` RGB in [0, 1].
        folder: Empty folder for temporary files.
        scheme: How the ranges of the activations are chosen.

    Attributes:
        layers: Names of the convolutions and matrix products, in the order of the graph.

    Raises:
        ConfigError: If onnx or onnxruntime is not installed.
    """

    def __init__(
        self, path: Path, images: Images, folder: Path, scheme: Scheme = ALL_VALUES
    ) -> None:
        onnx = needed("onnx", "onnx")
        self.images, self.scheme = images, scheme
        self.prepared, self.ranges = folder / "prepared.onnx", folder / "ranges.json"
        self.quantized = folder / "quantized.onnx"
        self.metadata = {each.key: each.value for each in onnx.load(str(path)).metadata_props}
        needed("onnxruntime.quantization.shape_inference", "onnx").quant_pre_process(
            str(path), str(self.prepared), skip_symbolic_shape=True
        )
        self.nodes = list(onnx.load(str(self.prepared)).graph.node)
        self.layers = [node.name for node in self.nodes if node.op_type in LAYERS]

    def write(self, path: Path, float_layers: Sequence[str] = ()) -> None:
        """Write the file in int8.

        Args:
            path: Path of the new file.
            float_layers: Names of layers that stay in float32, or patterns (`*/mixer/*`).

        Raises:
            ConfigError: If a name or pattern matches no layer.
            TrainingError: If the file cannot be written.
        """
        onnx = needed("onnx", "onnx")
        kept = {name for each in float_layers for name in self.named(each)}
        kept.update(node.name for node in self.nodes if node.op_type in FLOAT)
        self.quantize(layers_and_inputs(self.nodes, self.layers) - kept)
        model = onnx.load(str(self.quantized))
        onnx.helper.set_model_props(model, {**self.metadata, PRECISION: "int8"})
        write_whole(path, model.SerializeToString())

    def sensitivities(self, images: Images) -> Iterator[tuple[str, float]]:
        """Measure how much each layer changes the outputs if only this layer is in int8.

        Args:
            images: Images to measure it on, in the form of the calibration images.

        Yields:
            The layer's name and the signal-to-noise ratio in dB: 10 log10 of the outputs' variance
            divided by the mean square of their change. With several outputs, the smallest ratio.
        """
        expected = outputs_of(self.prepared, images, self.metadata)
        for layer in self.layers:
            self.quantize({layer})
            found = outputs_of(self.quantized, images, self.metadata)
            yield layer, min(map(signal_to_noise, expected, found))

    def quantize(self, names: Collection[str]) -> None:
        """Write the file `quantized`, with the given operators in int8."""
        onnxruntime = needed("onnxruntime.quantization", "onnx")
        kinds, methods = onnxruntime.QuantType, onnxruntime.CalibrationMethod
        options: dict[str, Any] = {"ActivationSymmetric": self.scheme.symmetric}
        if self.scheme.percentile is not None:
            options |= {
                "CalibPercentile": self.scheme.percentile,
                # The symmetric ranges of ONNX Runtime 1.32 depend on the positive values alone.
                "CalibTensorRangeSymmetric": False,
                # One image at a time: otherwise all values of all images are kept in memory.
                "CalibStridedMinMax": 1,
            }
        with quietly(), contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.quantize_static(
                str(self.prepared),
                str(self.quantized),
                Reader(self.images, self.metadata),
                activation_type=kinds.QInt8 if self.scheme.symmetric else kinds.QUInt8,
                weight_type=kinds.QInt8,
                calibrate_method=methods.MinMax
                if self.scheme.percentile is None
                else methods.Percentile,
                extra_options=options,
                per_channel=True,
                nodes_to_quantize=sorted(names),
                calibration_cache_path=self.ranges,
            )

    def named(self, pattern: str) -> list[str]:
        """Return the layers that match a name or a pattern.

        Raises:
            ConfigError: If no layer matches.
        """
        names = fnmatch.filter(self.layers, pattern)
        if not names:
            raise ConfigError(
                f"export.float_layers={pattern}: no layer matches; expected a name such as "
                f"{self.layers[0]}, or a pattern. Fix: list the names with export.sensitivity=true"
            )
        return names


def layers_and_inputs(nodes: Sequence[Any], layers: Collection[str]) -> set[str]:
    """Return the names of some layers and of all operators whose outputs reach one of them.

    Args:
        nodes: Nodes of an ONNX graph, in its order.
        layers: Names of the layers.
    """
    names: set[str] = set()
    needed_values: set[str] = set()
    for node in reversed(nodes):
        if node.name in layers or needed_values.intersection(node.output):
            names.add(node.name)
            needed_values.update(node.input)
    return names


def outputs_of(
    path: Path, images: Images, metadata: Mapping[str, str]
) -> list[npt.NDArray[np.float64]]:
    """Return every output of a file, for all images."""
    file = OnnxFile(path)
    runs = [file.run(as_input(image, metadata)) for image in images]
    return [np.concatenate([each[name] for each in runs]).astype(np.float64) for name in file.names]


def signal_to_noise(expected: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> float:
    """Return the signal-to-noise ratio in dB, limited to [-`SILENCE`, `SILENCE`]."""
    signal, noise = float(expected.var()), float(((found - expected) ** 2).mean())
    if signal == 0 or noise == 0:
        return -SILENCE if noise else SILENCE
    return float(np.clip(10 * math.log10(signal / noise), -SILENCE, SILENCE))

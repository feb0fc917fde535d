"""OpenVINO files in int8, quantized by NNCF and calibrated on images."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from parcnet_train.deploy.exportable import ALL_VALUES, PRECISION, Images, Scheme, as_input
from parcnet_train.deploy.formats.openvino import read, read_description, save
from parcnet_train.deploy.formats.packages import needed


class QuantizableOpenvino:
    """OpenVINO file in float32 that can be quantized: weights, and activations of all layers.

    Weights become int8, symmetric, with one scale per output channel. NNCF also corrects the biases
    of the layers, so that the mean of every output stays what it was.

    Args:
        path: Path of the `.xml` file, written by `write_openvino_network`.
        images: Calibration images, each `(1, 3, H, W)` RGB in [0, 1].
        folder: Not used.
        scheme: How the ranges of the activations are chosen.

    Attributes:
        layers: Empty, since no layer can be excluded.

    Raises:
        ConfigError: If OpenVINO or NNCF is not installed.
    """

    layers: Sequence[str] = ()

    def __init__(
        self, path: Path, images: Images, folder: Path, scheme: Scheme = ALL_VALUES
    ) -> None:
        self.nncf = tools()
        self.path, self.images, self.scheme = path, images, scheme

    def write(self, path: Path, float_layers: Sequence[str] = ()) -> None:
        """Write the file in int8, with the same description.

        Args:
            path: Path of the new `.xml` file.
            float_layers: Must be empty.

        Raises:
            TrainingError: If a file cannot be written.
        """
        assert not float_layers  # `check` rejects them
        description = read_description(self.path)
        presets = self.nncf.QuantizationPreset
        quantized = self.nncf.quantize(
            read(self.path),
            self.nncf.Dataset([as_input(image, description) for image in self.images]),
            preset=presets.PERFORMANCE if self.scheme.symmetric else presets.MIXED,
            subset_size=len(self.images),
            advanced_parameters=self.advanced(),
        )
        save(quantized, path, {**description, PRECISION: "int8"})

    def advanced(self) -> Any:
        """Return how NNCF chooses ranges: of all values, or the mean of those of each image."""
        ranges = needed("nncf.quantization.range_estimator", "openvino")
        parameters = ranges.RangeEstimatorParametersSet.MINMAX
        if self.scheme.percentile is not None:
            statistics = ranges.StatisticsCollectorParameters(
                ranges.StatisticsType.QUANTILE,
                ranges.AggregatorType.MEAN,
                # On either side.
                quantile_outlier_prob=(100 - self.scheme.percentile) / 200,
            )
            parameters = ranges.RangeEstimatorParameters(statistics, statistics)
        return self.nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=parameters
        )

    def sensitivities(self, images: Images) -> Iterator[tuple[str, float]]:
        """Return nothing, since `layers` is empty."""
        return iter(())


def tools() -> Any:
    """Import NNCF, which then neither reports its use to its developers nor logs.

    Raises:
        ConfigError: If it is not installed.
    """
    os.environ.setdefault("NNCF_CI", "1")
    logger_class = logging.getLoggerClass()
    nncf = needed("nncf", "openvino")
    logging.setLoggerClass(logger_class)  # NNCF sets its own for all loggers to come
    # `set_log_level` would also change the handlers of others.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf

"""OpenVINO files in int8, quantized by NNCF and calibrated on images."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from parcnet_train.deploy.exportable import ALL_VALUES, PRECISION, Images, Scheme, as_input
from parcnet_train.deploy.formats.int8.whole import WholeFile
from parcnet_train.deploy.formats.openvino import read, read_description, save
from parcnet_train.deploy.formats.packages import needed


class QuantizableOpenvino(WholeFile):
    """OpenVINO file in float32 that can be quantized: weights, and activations of all layers.

    Weights become int8, symmetric, with one scale per output channel. NNCF also corrects the biases
    of the layers, so that the mean of every output stays what it was.

    Raises:
        ConfigError: If OpenVINO or NNCF is not installed.
    """

    def __init__(
        self, path: Path, images: Images, folder: Path, scheme: Scheme = ALL_VALUES
    ) -> None:
        super().__init__(path, images, folder, scheme)
        self.nncf = tools()

    def write_int8(self, path: Path) -> None:
        """Write the file; see `WholeFile.write`."""
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

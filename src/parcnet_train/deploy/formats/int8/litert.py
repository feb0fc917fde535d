"""LiteRT files in int8, quantized by the AI Edge Quantizer and calibrated on images."""

from __future__ import annotations

from pathlib import Path

from parcnet_train.deploy.exportable import (
    INPUT,
    PRECISION,
    as_input,
)
from parcnet_train.deploy.formats.int8.whole import WholeFile
from parcnet_train.deploy.formats.litert import silent
from parcnet_train.deploy.formats.litert_graph import described, description_of
from parcnet_train.deploy.formats.packages import needed
from parcnet_train.errors import ConfigError, TrainingError, first_line
from parcnet_train.files import write_whole

SIGNATURE = "serving_default"


class QuantizableLitert(WholeFile):
    """LiteRT file in float32 that can be quantized: weights, and activations of all layers.

    Weights become int8, symmetric, with one scale per output channel. The ranges of activations go
    from the smallest to the largest value. Inputs and outputs stay float32.
    """

    def write_int8(self, path: Path) -> None:
        """Write the file; see `WholeFile.write`."""
        content = self.path.read_bytes()
        description = description_of(content)
        with silent():
            try:
                quantized = self.quantized(content)
            except ConfigError:
                raise
            except Exception as error:  # the quantizer has no errors of its own
                raise TrainingError(
                    f"{path}: LiteRT cannot quantize the file: {first_line(error)}. Fix: set "
                    "export.precision=float32"
                ) from error
            write_whole(path, described(quantized, {**description, PRECISION: "int8"}))

    def quantized(self, content: bytes) -> bytes:
        """Return a file in int8, given one in float32."""
        quantizer = needed("ai_edge_quantizer.quantizer", "litert")
        calibrator = needed("ai_edge_quantizer.calibrator", "litert")
        recipes = needed("ai_edge_quantizer.recipe_manager", "litert")
        updates = needed("ai_edge_quantizer.utils.qsv_utils", "litert")
        operations = needed("ai_edge_quantizer.qtyping", "litert").TFLOperationName
        recipe = recipes.RecipeManager()
        recipe.add_static_config(".*", operations.ALL_SUPPORTED, 8, 8)
        for each in (operations.INPUT, operations.OUTPUT):
            recipe.add_quantization_config(
                ".*", each, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE
            )
        # The quantizer's own calibration takes a moving average, in which the last images count
        # most.
        calibration = calibrator.Calibrator(
            content, num_threads=1, qsv_update_func=updates.min_max_update
        )
        metadata = description_of(content)
        inputs = [{INPUT: as_input(image, metadata)} for image in self.images]
        calibration.calibrate({SIGNATURE: inputs}, recipe)
        result = quantizer.Quantizer(content, recipe.get_quantization_recipe()).quantize(
            calibration.get_model_qsvs(), enable_progress_bar=False, enable_progress_report=False
        )
        return bytes(result.quantized_model)

"""MNN files in int8: quantised by MNN's own tool, calibrated on images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from parcnet_train.deploy.exportable import PRECISION, Images
from parcnet_train.deploy.formats.mnn import read_description, run_tool, write_mnn
from parcnet_train.errors import TrainingError
from parcnet_train.files import write_whole

# The tool's moving average gives the first batch 99 % and every further one 1 % of the ranges, so
# that one batch has to be enough: of as many pixels as 64 images of 256x256. Memory grows with it
# (ParC-Net-S: 0.4 GB with 8 of them, 1.0 GB with 32).
BATCH_PIXELS = 64 * 256 * 256


class QuantizableMnn:
    """An MNN file in float32 that is to be quantised: values between operators and weights.

    Every layer that MNN has in int8 becomes one: the method EMA leaves none out, and the other
    methods of its tool, which could, end with a segmentation fault (MNN 3.6.1).

    Args:
        path: of the file, as `write_mnn_network` leaves it.
        images: for the ranges, `(1, 3, H, W)` RGB from 0 to 1 each; those beyond the first
            `BATCH_PIXELS` are not looked at.
        folder: for files in between, an empty one.

    Attributes:
        images: that are looked at.
        layers: none, see above.
    """

    layers: Sequence[str] = ()

    def __init__(self, path: Path, images: Images, folder: Path) -> None:
        height, width = images[0].shape[-2:]
        self.images = images[: max(1, BATCH_PIXELS // (height * width))]
        self.path, self.folder = path, folder

    def write(self, path: Path, float_layers: Sequence[str] = ()) -> None:
        """Writes the file in int8; the description goes along.

        Args:
            path: of the new file.
            float_layers: none.

        Raises:
            ConfigError: where MNN is not installed.
            TrainingError: where MNN's tool fails, or the disk does not take a file.
        """
        assert not float_layers  # `check` refuses them
        pictures, settings = self.folder / "images", self.folder / "settings.json"
        quantized = self.folder / "quantized.mnn"
        for number, image in enumerate(self.images):
            pixels = np.rint(255 * image[0].transpose(1, 2, 0)).astype(np.uint8)
            encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
            write_whole(pictures / f"{number:06}.png", encoded.tobytes())
        height, width = self.images[0].shape[-2:]
        told = {
            **{"path": f"{pictures}/", "batch_size": len(self.images), "format": "RGB"},
            **{"height": height, "width": width, "mean": [0.0] * 3, "normal": [1 / 255] * 3},
            **{"feature_quantize_method": "EMA", "weight_quantize_method": "MAX_ABS"},
        }
        write_whole(settings, json.dumps(told).encode())
        fault = run_tool("mnnquant", quantized, str(self.path), str(quantized), str(settings))
        if fault:
            raise TrainingError(
                f"{self.path} cannot be quantised by MNN: {fault}; export.precision=float32 is left"
            )
        # The tool drops the description.
        write_mnn(quantized, path, {**read_description(self.path), PRECISION: "int8"})

    def sensitivities(self, images: Images) -> Iterator[tuple[str, float]]:
        """Of no layer."""
        return iter(())

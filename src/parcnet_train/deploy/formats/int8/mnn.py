"""MNN files in int8, quantized by MNN's own tool and calibrated on images."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from parcnet_train.deploy.exportable import ALL_VALUES, PRECISION, Images, Scheme
from parcnet_train.deploy.formats.int8.whole import WholeFile
from parcnet_train.deploy.formats.mnn import read_description, run_tool, write_mnn
from parcnet_train.errors import TrainingError
from parcnet_train.files import write_whole

# The tool computes the ranges as a moving average in which the first batch has a weight of 99 % and
# every later one 1 %. So all images have to fit into one batch, which has as many pixels as 64
# images of 256x256. The memory grows with it (ParC-Net-S: 0.4 GB for 8 images, 1.0 GB for 32).
BATCH_PIXELS = 64 * 256 * 256


class QuantizableMnn(WholeFile):
    """MNN file in float32 that can be quantized: both its weights and its activations.

    Every layer that MNN supports in int8 is quantized. The tool's method EMA cannot exclude layers,
    and its other methods, which can, end with a segmentation fault (MNN 3.6.1).

    Attributes:
        images: Calibration images that are used: those within the first `BATCH_PIXELS` pixels.
    """

    def __init__(
        self, path: Path, images: Images, folder: Path, scheme: Scheme = ALL_VALUES
    ) -> None:
        height, width = images[0].shape[-2:]
        used = images[: max(1, BATCH_PIXELS // (height * width))]
        super().__init__(path, used, folder, scheme)

    def write_int8(self, path: Path) -> None:
        """Write the file; see `WholeFile.write`."""
        pictures, settings = self.folder / "images", self.folder / "settings.json"
        quantized = self.folder / "quantized.mnn"
        for number, image in enumerate(self.images):
            pixels = np.rint(255 * image[0].transpose(1, 2, 0)).astype(np.uint8)
            encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
            write_whole(pictures / f"{number:06}.png", encoded.tobytes())
        height, width = self.images[0].shape[-2:]
        options = {
            "path": f"{pictures}/",
            "batch_size": len(self.images),
            "format": "RGB",
            "height": height,
            "width": width,
            "mean": [0.0] * 3,
            "normal": [1 / 255] * 3,
            "feature_quantize_method": "EMA",
            "weight_quantize_method": "MAX_ABS",
        }
        write_whole(settings, json.dumps(options).encode())
        fault = run_tool("mnnquant", quantized, str(self.path), str(quantized), str(settings))
        if fault:
            raise TrainingError(
                f"{self.path}: MNN cannot quantize the file: {fault}. Fix: set "
                "export.precision=float32"
            )
        # The tool does not keep the description.
        write_mnn(quantized, path, {**read_description(self.path), PRECISION: "int8"})

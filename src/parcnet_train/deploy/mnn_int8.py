"""MNN files in int8: quantised by MNN's own tool, calibrated on images."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from parcnet_train.deploy.mnn_file import read_description, run_tool, write_mnn
from parcnet_train.errors import TrainingError
from parcnet_train.files import write_whole

# The tool's moving average gives the first batch 99 % and every further one 1 % of the ranges, so
# that one batch has to be enough: of as many pixels as 64 images of 256x256. Memory grows with it
# (ParC-Net-S: 0.4 GB with 8 of them, 1.0 GB with 32).
BATCH_PIXELS = 64 * 256 * 256


def quantize_mnn(source: Path, target: Path, images: Sequence[npt.NDArray[np.float32]]) -> None:
    """Makes an int8 file of a float one: activations per map, weights per channel.

    Every layer that MNN has in int8 becomes one: the method EMA leaves none out, and the other
    methods of its tool, which could, end with a segmentation fault (MNN 3.6.1).

    Args:
        source: of `write_mnn_network`; its description goes along.
        target: the new file.
        images: of the training set, `(1, 3, H, W)` from 0 to 1, as the network takes them; those
            beyond the first `BATCH_PIXELS` are not looked at.

    Raises:
        ConfigError: where MNN is not installed.
        TrainingError: where MNN's tool fails, or the disk does not take a file.
    """
    height, width = images[0].shape[-2:]
    calibration = images[: max(1, BATCH_PIXELS // (height * width))]
    with tempfile.TemporaryDirectory() as folder:
        pictures, settings = Path(folder) / "images", Path(folder) / "settings.json"
        quantized = Path(folder) / "quantized.mnn"
        for number, image in enumerate(calibration):
            pixels = np.rint(255 * image[0].transpose(1, 2, 0)).astype(np.uint8)
            encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
            write_whole(pictures / f"{number:06}.png", encoded.tobytes())
        told = {
            **{"path": f"{pictures}/", "batch_size": len(calibration), "format": "RGB"},
            **{"height": height, "width": width, "mean": [0.0] * 3, "normal": [1 / 255] * 3},
            **{"feature_quantize_method": "EMA", "weight_quantize_method": "MAX_ABS"},
        }
        write_whole(settings, json.dumps(told).encode())
        fault = run_tool("mnnquant", quantized, str(source), str(quantized), str(settings))
        if fault:
            raise TrainingError(
                f"{source} cannot be quantised by MNN: {fault}; export.precision=float32 is left"
            )
        # The tool drops the description.
        write_mnn(quantized, target, read_description(source))

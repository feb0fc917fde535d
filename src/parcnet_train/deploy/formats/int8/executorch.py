"""ExecuTorch files in int8, quantized by torchao and calibrated on images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from parcnet_train.deploy.exportable import ALL_VALUES, PRECISION, Images, Scheme, as_input
from parcnet_train.deploy.formats.executorch import (
    OUTPUTS,
    XNNPACK,
    reported,
    silently,
    write_lowered,
)
from parcnet_train.deploy.formats.exported_program import NAMES, read_description
from parcnet_train.deploy.formats.packages import needed


class QuantizableExecutorch:
    """File of torch.export in float32 that can be quantized for XNNPACK.

    Convolutions, linear layers, sums, products and concatenations become int8: weights symmetric
    with one scale per output channel, activations with a zero point. The other operators, such as
    sigmoids, stay float32.

    Args:
        path: Path of the file, written by `write_program`.
        images: Calibration images, each `(1, 3, H, W)` RGB in [0, 1].
        folder: Not used.
        scheme: Must be the default; XNNPACK's quantizer has its own.

    Attributes:
        layers: Empty, since no layer can be excluded.
    """

    layers: Sequence[str] = ()

    def __init__(
        self, path: Path, images: Images, folder: Path, scheme: Scheme = ALL_VALUES
    ) -> None:
        self.path, self.images = path, images

    def write(self, path: Path, float_layers: Sequence[str] = ()) -> None:
        """Write an ExecuTorch file in int8, with the description of the float32 file.

        Args:
            path: Path of the new file.
            float_layers: Must be empty.

        Raises:
            ConfigError: If ExecuTorch is not installed.
            TrainingError: If the network cannot be converted, or the file cannot be written.
        """
        assert not float_layers  # `check` rejects them
        about = read_description(self.path)
        metadata = {**about, PRECISION: "int8", OUTPUTS: json.dumps(about[NAMES])}
        inputs = [torch.from_numpy(as_input(image, metadata)) for image in self.images]
        with silently():
            pt2e = needed("torchao.quantization.pt2e.quantize_pt2e", "executorch")
            rules = needed(f"{XNNPACK}.quantizer.xnnpack_quantizer", "executorch")
            scheme = rules.get_symmetric_quantization_config(is_per_channel=True)
            with reported(path), torch.no_grad():
                module = torch.export.load(self.path).module()
                prepared = pt2e.prepare_pt2e(module, rules.XNNPACKQuantizer().set_global(scheme))
                for each in inputs:
                    prepared(each)
                quantized = pt2e.convert_pt2e(prepared)
        write_lowered(quantized, inputs[0], path, metadata)

    def sensitivities(self, images: Images) -> Iterator[tuple[str, float]]:
        """Return nothing, since `layers` is empty."""
        return iter(())

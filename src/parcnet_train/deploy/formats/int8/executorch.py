"""ExecuTorch files in int8, quantized by torchao and calibrated on images."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from parcnet_train.deploy.exportable import PRECISION, as_input
from parcnet_train.deploy.formats.executorch import (
    OUTPUTS,
    XNNPACK,
    reported,
    silently,
    write_lowered,
)
from parcnet_train.deploy.formats.exported_program import NAMES, load_program, read_description
from parcnet_train.deploy.formats.int8.whole import WholeFile
from parcnet_train.deploy.formats.packages import needed


class QuantizableExecutorch(WholeFile):
    """File of torch.export in float32 that can be quantized for XNNPACK.

    Convolutions, linear layers, sums, products and concatenations become int8: weights symmetric
    with one scale per output channel, activations with a zero point. The other operators, such as
    sigmoids, stay float32.
    """

    def write_int8(self, path: Path) -> None:
        """Write the file; see `WholeFile.write`."""
        about = read_description(self.path)
        metadata = {**about, PRECISION: "int8", OUTPUTS: json.dumps(about[NAMES])}
        inputs = [torch.from_numpy(as_input(image, metadata)) for image in self.images]
        with silently():
            pt2e = needed("torchao.quantization.pt2e.quantize_pt2e", "executorch")
            rules = needed(f"{XNNPACK}.quantizer.xnnpack_quantizer", "executorch")
            scheme = rules.get_symmetric_quantization_config(is_per_channel=True)
            with reported(path), torch.no_grad():
                module = load_program(self.path).module()
                prepared = pt2e.prepare_pt2e(module, rules.XNNPACKQuantizer().set_global(scheme))
                for each in inputs:
                    prepared(each)
                quantized = pt2e.convert_pt2e(prepared)
        write_lowered(quantized, inputs[0], path, metadata)

"""ExecuTorch files in int8: outputs, operators and metadata."""

import numpy as np
import pytest
import torch

from exporting import NAMES, images_of, outputs_of
from lively import lively
from parcnet_train.deploy.exportable import Exportable, FileOptions
from parcnet_train.deploy.formats.exported_program import write_program
from parcnet_train.deploy.formats.formats import FORMATS
from parcnet_train.deploy.formats.int8.executorch import QuantizableExecutorch

pytestmark = pytest.mark.runtimes

SIZE = (64, 64)


def test_outputs_are_near_and_the_description_says_int8(tmp_path):
    model = lively("parcnet_xs", "classification", "backbone.depths=[1,1,1]")
    network, images = Exportable(model, SIZE), images_of(SIZE, 8)
    source, path = tmp_path / "float.pt2", tmp_path / "int8.pte"
    write_program(network, source, network.description(NAMES), FileOptions(dynamic_batch=False))
    parts = [each[None].numpy() for each in images]
    QuantizableExecutorch(source, parts, tmp_path).write(path)
    assert path.stat().st_size < 0.35 * source.stat().st_size
    form = FORMATS["executorch"]
    file = form.open(path)
    assert file.metadata["precision"] == "int8"
    assert file.metadata["task"] == "classification"
    assert form.count(path)["XNNConvert"] > 20
    found = torch.from_numpy(np.concatenate([file.run(each)["logits"] for each in parts]))
    (expected,) = outputs_of(model, images)
    noise = ((found - expected) ** 2).mean()
    assert 0 < noise < 0.05 * expected.var()

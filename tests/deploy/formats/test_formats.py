"""Table of the export formats."""

import json
from typing import get_args, get_type_hints

import numpy as np
import torch

from lively import lively
from parcnet_train.config.action_sections import Export
from parcnet_train.deploy.exportable import Exportable
from parcnet_train.deploy.formats.formats import FORMATS


def test_mnn_outputs_keep_their_names(tmp_path):
    """MNN reorders the outputs."""
    model = lively("parcnet_xs", "detection", classes=5)
    network = Exportable(model, (64, 96))
    FORMATS["mnn"].write(network, tmp_path / "file.mnn", network.description(list("abcde")))
    file = FORMATS["mnn"].open(tmp_path / "file.mnn")
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(images)
    for name, found in file.run(images.numpy()).items():
        truth = getattr(expected, name).numpy()
        np.testing.assert_allclose(found, truth, atol=1e-3 * truth.std())
    assert file.names == ["class_logits", "box_offsets"]
    assert json.loads(file.metadata["class_names"]) == list("abcde")


def test_every_format_is_accepted_by_the_config():
    assert get_args(get_type_hints(Export)["format"]) == tuple(FORMATS)

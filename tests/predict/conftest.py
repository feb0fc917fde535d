"""Small trainings for the tests of predictions."""

import pytest
import torch

from coco_files import write_coco
from parcnet_train.checkpoints.reading import read_checkpoint
from predicting import DETECTION, SEGMENTATION, best
from running import run
from voc_files import write_voc


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """Data and run directory of a short training of a detector."""
    data, output = write_coco(tmp_path_factory.mktemp("coco")), tmp_path_factory.mktemp("detector")
    run([*DETECTION, f"data.root={data}"], output)
    return data, output


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    """Data and run directory of a short training of a segmentation network."""
    data, output = write_voc(tmp_path_factory.mktemp("voc")), tmp_path_factory.mktemp("segmenter")
    run([*SEGMENTATION, f"data.root={data}"], output)
    checkpoint = read_checkpoint(best(output))
    torch.manual_seed(0)
    for name, value in checkpoint["state_dict"].items():
        if (
            name.startswith("model.head.") and value.dim() == 4
        ):  # so that it predicts several classes
            value.copy_(torch.randn_like(value))
    torch.save(checkpoint, best(output))
    return data, output

"""Files of torch.export."""

import json

import numpy as np
import pytest
import torch

from exporting import NAMES, assert_equal_to_torch, images_of, outputs_of, written
from lively import lively

SIZE = (64, 96)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier and its file."""
    path = tmp_path_factory.mktemp("program") / "network.pt2"
    model = lively("parcnet_xs")
    return model, path, written("torch_export", model, SIZE, path)


def test_batch_size_is_free(classifier):
    model, _, file = classifier
    images = images_of(SIZE, 3)
    expected = outputs_of(model, images)[0].numpy()
    for first in range(3):
        logits = file.run(images[first:].numpy())["logits"]
        np.testing.assert_allclose(logits, expected[first:], atol=1e-4 * expected.std())


@pytest.mark.slow
def test_detector_outputs_match_pytorch(tmp_path):
    assert_equal_to_torch("torch_export", "parcnet_xs", "detection", SIZE, tmp_path / "a.pt2")


def test_metadata_describes_the_network(classifier):
    _, path, file = classifier
    assert file.names == ["logits"]
    assert json.loads(file.metadata["class_names"]) == NAMES
    module = torch.export.load(path).module()  # without this package's code
    assert module(torch.zeros(2, 3, *SIZE))[0].shape == (2, 10)

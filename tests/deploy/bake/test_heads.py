"""Baked heads, compared with the original ones."""

import pytest
import torch

from lively import lively
from parcnet_train.deploy.bake.heads import FixedModel, FixedPooling, FixedSSDLite
from parcnet_train.models.heads.deeplabv3 import ImagePooling

SIZE = (96, 160)


@pytest.fixture(scope="module")
def detector():
    return lively("parcnet_xs", "detection")


def maps_of(model, images):
    with torch.no_grad():
        return model.backbone(images)


def test_baked_detector_matches_and_keeps_its_anchors(detector):
    maps = maps_of(detector, torch.rand(2, 3, *SIZE))
    fixed = FixedSSDLite(detector.head, [tuple(each.shape[2:]) for each in maps])
    with torch.no_grad():
        for ours, theirs in zip(fixed(maps), detector.head(maps), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert "anchors" not in fixed.state_dict()


def test_pooling_broadcasts_the_mean_of_a_map():
    torch.manual_seed(0)
    pooling = ImagePooling(4, 6).eval()
    x = torch.rand(2, 4, 3, 5)
    with torch.no_grad():
        torch.testing.assert_close(FixedPooling(pooling, (3, 5))(x), pooling(x))


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_baked_model_runs_at_its_size(task):
    model = lively("mobilevit_xxs", task)
    images = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(FixedModel(model, SIZE)(images), model(images))

"""`head=native`: the classifier that a network has of its own."""

from typing import ClassVar

import torch
from torch import nn

from faults import assert_one_is
from parcnet_train.build import build_model
from parcnet_train.models.base import Backbone, Level
from parcnet_train.models.heads.native import Native
from running import configure


class Pooling(Backbone):
    """A network that brings a classifier, as those of libraries do."""

    brings_classifier: ClassVar[bool] = True

    def __init__(self, channels=6, native=False):
        super().__init__()
        self.encode = nn.Conv2d(3, channels, 32, 32)
        self.native = native
        self.levels = (Level(32, channels),)

    def classifier(self, num_classes):
        return nn.Linear(self.levels[-1].channels, num_classes)

    def forward(self, images):
        encoded = self.encode(images)
        return [encoded.mean((2, 3)) if self.native else encoded]


def test_head_is_the_classifier_of_the_backbone():
    backbone = {"_target_": f"{__name__}.Pooling", "channels": 8, "pretrained": None}
    head = {"_target_": f"{Native.__module__}.Native", "_partial_": True}
    model = build_model({"backbone": backbone, "head": head}, num_classes=5).eval()
    images = torch.rand(2, 3, 64, 96)
    pooled = model.backbone.encode(images).mean((2, 3))
    expected = pooled @ model.head.classifier.weight.T + model.head.classifier.bias
    torch.testing.assert_close(model(images), expected, atol=1e-6, rtol=0)


def test_backbone_without_a_classifier_is_one_fault():
    faults = configure(["head=native", "backbone=parcnet_xs"])[1]
    assert len(faults) == 1
    assert_one_is("head=native: …ParCNet has no classifier … Fix: head=classifier", faults)

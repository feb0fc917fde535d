"""Classes and functions that configurations name."""

import os
from collections import OrderedDict

import pytest

from parcnet_train.models.backbones.parcnet import ParCNet
from parcnet_train.targets import locate, may_be, named_targets


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("collections.OrderedDict", OrderedDict),
        ("os.getcwd", os.getcwd),
        ("parcnet_train.models.backbones.parcnet.ParCNet", ParCNet),
        ("collections.Nothing", None),
        ("no_such_package.Nothing", None),
        ("os.sep", None),  # a string, which is not callable
        (None, None),
    ],
)
def test_locate_returns_the_target_or_none(name, found):
    assert locate({"_target_": name}) is found


def test_named_targets_are_found_at_any_depth():
    node = {"_target_": "a.B", "x": [{"_target_": "c.D"}, {"y": {"_target_": "e.F"}}], "z": "${g}"}
    assert list(named_targets(node, "head")) == [
        ("head", "a.B"),
        ("head.x.", "c.D"),
        ("head.x..y", "e.F"),
        ("head.z", "${g}"),
    ]


NETWORK = "parcnet_train.models.backbones.parcnet.ParCNet"
DATA = "parcnet_train.data.demo.classification.DigitsData"
TASK = "parcnet_train.tasks.classification.ClassificationTask"
TRANSFORM = "parcnet_train.data.classification.transforms.Augmentation"


@pytest.mark.parametrize(
    ("key", "target", "is_allowed"),
    [
        ("backbone", NETWORK, True),
        ("head", "parcnet_train.models.heads.classifier.Classifier", True),
        ("head.norm", NETWORK, True),
        ("head", "parcnet_train.models.model.Model.forward", False),  # a function
        ("head", "parcnet_train.models.base.Level", False),  # a class that is no module
        ("head", "parcnet_train.models.model.nn.Linear", False),  # an import
        ("head", "torch.nn.Linear", False),
        ("head", "parcnet_train.deploy.standalone.workers.Worker", False),
        ("head.norm", "parcnet_train.runs.provenance.Provenance", False),
        ("head", DATA, False),
        ("head", TASK, False),
        ("data", DATA, True),
        ("data", TRANSFORM, False),
        ("data", "parcnet_train.data.prepare.convert.Converted", False),
        ("data.augmentation", TRANSFORM, True),
        ("data.augmentation", DATA, False),
        ("recipe.augmentation", TRANSFORM, True),
        ("recipe.multi_scale", "parcnet_train.data.samplers.MultiScale", True),
        ("recipe.ema", "parcnet_train.callbacks.averaging.EMA", True),
        ("recipe.optimizer", DATA, False),
        ("task", TASK, True),
        ("task.metric", TASK, False),
        ("seed", NETWORK, False),
    ],
)
def test_every_part_has_its_classes(key, target, is_allowed):
    assert may_be(key, target) == is_allowed


def test_modules_of_trusted_packages_are_allowed_in_networks_alone():
    assert may_be("head", "torch.nn.Linear", ["torch"])
    assert may_be("head", "torch.nn.modules.linear.Linear", ["torch"])
    assert not may_be("head", "torch.utils.data.DataLoader", ["torch"])
    assert not may_be("data", "torch.nn.modules.linear.Linear", ["torch"])

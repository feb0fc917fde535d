"""Classes and functions that configurations name."""

import os
from collections import OrderedDict

import pytest

from parcnet_train.models.backbones.parcnet import ParCNet
from parcnet_train.targets import is_class_of, locate, named_targets


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
    assert list(named_targets(node)) == ["a.B", "c.D", "e.F", "${g}"]


@pytest.mark.parametrize(
    ("target", "is_ours"),
    [
        ("parcnet_train.models.backbones.parcnet.ParCNet", True),
        ("parcnet_train.build.build_model", False),  # a function
        ("parcnet_train.build.torch.nn.Linear", False),  # a class that our module imports
        ("torch.nn.Linear", False),
    ],
)
def test_only_classes_defined_in_the_packages_count(target, is_ours):
    assert is_class_of(target, ["parcnet_train"]) == is_ours

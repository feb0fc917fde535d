"""Differences of two sets of weights, in words."""

import torch

from parcnet_train.checkpoints.state_dict_diff import by_module, size_of, weight_differences


def test_equal_weights_have_no_differences():
    weights = {"a.weight": torch.zeros(2, 3), "b": torch.zeros(())}
    assert weight_differences(weights, {k: v.to("meta") for k, v in weights.items()}) == []


def test_missing_extra_and_misshapen_entries_are_named():
    held = {"norm.weight": torch.zeros(5), "norm.bias": torch.zeros(5), "old": torch.zeros(1)}
    expected = {"norm.weight": torch.zeros(7), "norm.bias": torch.zeros(7), "new": torch.zeros(1)}
    assert weight_differences(held, expected) == [
        "missing: new",
        "too many: old",
        "misshapen: norm.{weight,bias} is 5, not 7",
    ]


def test_entries_have_the_names_of_their_file():
    held = {"norm.weight": torch.zeros(5), "old": torch.zeros(1)}
    names = {"norm.weight": "bn.weight", "old": "fc"}
    assert weight_differences(held, {"norm.weight": torch.zeros(7)}, names) == [
        "too many: fc",
        "misshapen: norm.weight (there: bn) is 5, not 7",
    ]


def test_names_are_grouped_by_module():
    assert by_module(["a.b.weight", "scale", "a.b.bias"]) == ["a.b.{weight,bias}", "scale"]
    assert [size_of(torch.zeros(shape)) for shape in ((), (3,), (4, 3, 1))] == ["()", "3", "4x3x1"]

"""Differences between two state dicts."""

import torch

from parcnet_train.checkpoints.state_dict_diff import by_module, size_of, weight_differences


def test_equal_weights_have_no_differences():
    weights = {"a.weight": torch.zeros(2, 3), "b": torch.zeros(())}
    assert weight_differences(weights, {k: v.to("meta") for k, v in weights.items()}) == []


def test_missing_unexpected_and_mismatched_entries_are_listed():
    held = {"norm.weight": torch.zeros(5), "norm.bias": torch.zeros(5), "old": torch.zeros(1)}
    expected = {"norm.weight": torch.zeros(7), "norm.bias": torch.zeros(7), "new": torch.zeros(1)}
    assert weight_differences(held, expected) == [
        "missing: new",
        "unexpected: old",
        "wrong shape: norm.{weight,bias} is 5, expected 7",
    ]


def test_entries_have_their_published_names():
    held = {"norm.weight": torch.zeros(5), "old": torch.zeros(1)}
    names = {"norm.weight": "bn.weight", "old": "fc"}
    assert weight_differences(held, {"norm.weight": torch.zeros(7)}, names) == [
        "unexpected: fc",
        "wrong shape: norm.weight (published as bn) is 5, expected 7",
    ]


def test_names_are_grouped_by_module():
    assert by_module(["a.b.weight", "scale", "a.b.bias"]) == ["a.b.{weight,bias}", "scale"]
    assert [size_of(torch.zeros(shape)) for shape in ((), (3,), (4, 3, 1))] == ["()", "3", "4x3x1"]

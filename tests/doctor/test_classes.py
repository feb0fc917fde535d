"""Findings about classes."""

import numpy as np
import pytest

from parcnet_train.doctor.classes import Tally, class_findings, oddity_of


def findings(names, train, val):
    counts = {"train": np.array(train), "val": np.array(val)}
    return {each.kind: each for each in class_findings(Tally(names, "images", counts))}


@pytest.mark.parametrize(
    "name", [" cat", "cat ", "c  at", "c\tat", "cafe\u0301", "\uff43at", "c\u200bat"]
)
def test_odd_names_are_recognized(name):
    assert oddity_of(name)


@pytest.mark.parametrize("name", ["cat", "café", "traffic light", "n01440764", "猫"])
def test_ordinary_names_are_not_odd(name):
    assert oddity_of(name) is None


def test_names_equal_but_for_their_form_are_suspicious():
    found = findings(["traffic light", "traffic_light", "dog"], [9, 9, 9], [1, 1, 1])
    assert found["suspicious-names"].count == 2
    assert "differs only in form from 'traffic_light'" in found["suspicious-names"].files[0]


def test_rare_unused_and_one_sided_classes():
    found = findings(["a", "b", "c", "d"], [90, 3, 0, 0], [5, 0, 2, 0])
    assert found["rare-class"].files == ["b (3 images)"]
    assert found["unused-class"].files == ["d"]
    assert found["class-balance"].message.startswith("The largest class has 30.0 times")
    assert found["class-balance"].table.rows[0] == ("a", "90", "96.8 %", "5", "71.4 %")


def test_long_tables_show_both_ends():
    counts = list(range(1, 101))
    found = findings([f"c{n:03}" for n in counts], counts, counts)
    rows = found["class-balance"].table.rows
    assert (len(rows), rows[0][0], rows[-1][0]) == (30, "c100", "c001")

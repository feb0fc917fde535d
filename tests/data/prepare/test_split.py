"""Stratified split with groups."""

from collections import Counter

import pytest

from parcnet_train.data.prepare.split import group_names, stratify
from parcnet_train.errors import ConfigError, DataError

SHARES = {"train": 0.7, "val": 0.2, "test": 0.1}


def test_every_class_has_its_share():
    classes = [("a",)] * 100 + [("b",)] * 30 + [("c",)] * 10 + [()] * 20
    sets = stratify(classes, range(160), SHARES, 0)
    counts = Counter(zip(classes, sets, strict=True))
    for name, total in Counter(classes).items():
        for split, share in SHARES.items():
            assert abs(counts[name, split] - share * total) <= 1, (name, split)


def test_images_of_several_classes_are_balanced():
    classes = [
        {n for n in "abcd" if (number * 7 + ord(n)) % (ord(n) - 94) == 0} for number in range(200)
    ]
    sets = stratify(classes, range(200), {"train": 0.8, "val": 0.2}, 3)
    for name in "abcd":
        shown = [split for each, split in zip(classes, sets, strict=True) if name in each]
        assert shown.count("val") == pytest.approx(0.2 * len(shown), abs=2)


def test_groups_stay_together():
    groups = [number // 7 for number in range(210)]
    sets = stratify([(str(group % 3),) for group in groups], groups, SHARES, 1)
    assert all(
        len({s for g, s in zip(groups, sets, strict=True) if g == group}) == 1 for group in groups
    )
    assert sets.count("val") == pytest.approx(42, abs=7)


def test_seed_decides():
    classes = [("a",), ("b",)] * 50
    first, same, other = (stratify(classes, range(100), SHARES, seed) for seed in (0, 0, 1))
    assert first == same
    assert first != other


def test_rare_class_is_in_the_training_set():
    sets = stratify([("a",)] * 20 + [("b",)], range(21), {"train": 0.8, "val": 0.2}, 0)
    assert sets[-1] == "train"


def test_pattern_names_the_groups():
    names = ["x/p1_a.jpg", "x/p2_b.jpg", "y/p1_c.jpg"]
    assert group_names(names, r"(p\d+)_") == ["p1", "p2", "p1"]
    assert group_names(names, r"^./") == ["x/", "x/", "y/"]
    assert len(set(group_names(names, r"^(.)/(p\d)"))) == 3


def test_wrong_patterns_are_refused():
    with pytest.raises(ConfigError, match=r"group_by=\(: it is not a regular expression"):
        group_names(["a"], "(")
    with pytest.raises(DataError, match=r"does not match 2 of 3 names \(first: b, c\); expected"):
        group_names(["a", "b", "c"], "a")

"""Faults of one kind in one line."""

import pytest

from parcnet_train.data.prepare.faults import Faults
from parcnet_train.errors import DataError


def test_kinds_are_lines_with_counts_and_first_names():
    faults = Faults("prepare.input=x")
    faults.refuse()
    for name in "abcd":
        faults.add("bad boxes", "expected good ones", name)
    faults.add("bad names", "expected others", "e")
    with pytest.raises(DataError) as caught:
        faults.refuse()
    assert str(caught.value).splitlines() == [
        "prepare.input=x: bad boxes: 4 (first: a, b, c, ...); expected good ones",
        "prepare.input=x: bad names: 1 (first: e); expected others",
    ]


def test_warnings_are_logged_once(caplog):
    faults = Faults("x")
    faults.add("bad boxes", "expected good ones", "a")
    faults.warn()
    faults.warn()
    assert caplog.messages == ["x: bad boxes: 1 (first: a); expected good ones"]

"""The check of what actions read and write."""

import os

import pytest

from faults import assert_one_is
from running import faults_of


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["paths.runs=/dev/null/x"], "/dev/null is not a folder that can be written to"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_each_fault_is_named(overrides, message):
    assert_one_is(message, faults_of(*overrides))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0)
    (fault,) = faults_of(f"paths.runs={tmp_path}/locked/runs")
    assert fault.endswith(f"{tmp_path}/locked is not a folder that can be written to")

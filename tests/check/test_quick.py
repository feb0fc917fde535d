"""Settings of the actions that run without torch."""

import pytest

from parcnet_train.check.quick import wrong_action
from running import composed


@pytest.mark.parametrize(
    ("action", "fix"), [("prepare", "prepare.input=PATH"), ("watch", "leave it out")]
)
def test_keys_that_the_action_does_not_read_are_faults(action, fix, tmp_path):
    config = composed() | {"action": action, "ckpt": "last", "input": "x"}
    if action == "prepare":
        config["prepare"] |= {"source": "split", "input": str(tmp_path), "output": "out"}
    else:
        config["report"]["runs"] = str(tmp_path)
    assert [(fault.key, fault.message) for fault in wrong_action(config)] == [
        ("ckpt", f"ckpt=last: action={action} does not read it. Fix: leave it out"),
        ("input", f"input=x: action={action} does not read it. Fix: {fix}"),
    ]


def test_a_missing_folder_of_runs_is_a_fault(tmp_path):
    config = composed() | {"action": "watch", "report": {"runs": [str(tmp_path), "no/such"]}}
    (fault,) = wrong_action(config)
    assert fault.key == "report.runs"
    assert fault.message == (
        "report.runs=no/such: this folder does not exist; expected a folder of runs"
    )

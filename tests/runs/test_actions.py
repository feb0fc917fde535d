"""The table of actions."""

import pytest

from parcnet_train.runs.actions import ACTIONS, SECTIONS, action_of, reads_data


def test_action_is_found_by_its_name():
    assert action_of({"action": "fit"}) is ACTIONS["fit"]
    assert action_of({"action": "fitt"}) is None


def test_section_belongs_to_one_action():
    assert len(set(SECTIONS)) == len(SECTIONS)
    assert {"predict", "export", "profile", "benchmark", "report", "check"} <= set(SECTIONS)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"action": "fit"}, True),
        ({"action": "profile"}, False),
        ({"action": "benchmark", "benchmark": {"target": "loader"}}, True),
        ({"action": "benchmark", "benchmark": {"target": "operator"}}, False),
        ({"action": "export", "export": {"verify": "none", "precision": "float32"}}, False),
        ({"action": "export", "export": {"verify": "none", "precision": "int8"}}, True),
        ({"action": "fitt"}, True),
    ],
    ids=str,
)
def test_data_are_read_if_the_action_needs_them(values, expected):
    assert reads_data(values) == expected


def test_only_actions_on_finished_trainings_evaluate():
    evaluating = {name for name, action in ACTIONS.items() if action.evaluates}
    assert evaluating == {"test", "average", "export"}

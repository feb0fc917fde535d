"""The table of actions."""

from parcnet_train.runs.actions import ACTIONS, SECTIONS, action_of


def test_action_is_found_by_its_name():
    assert action_of("fit") is ACTIONS["fit"]
    assert action_of("fitt") is None


def test_section_belongs_to_one_action():
    assert len(set(SECTIONS)) == len(SECTIONS)
    assert {"predict", "export", "profile", "benchmark", "report", "check"} <= set(SECTIONS)


def test_only_actions_on_finished_trainings_evaluate():
    evaluating = {name for name, action in ACTIONS.items() if action.evaluates}
    assert evaluating == {"test", "average", "export"}

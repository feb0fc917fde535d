"""Comments of `conf/config.yaml`, which name all values of a key."""

import typing

from parcnet_train.config.action_sections import Export
from parcnet_train.config.compose import CONF
from parcnet_train.runs.actions import ACTIONS

TEXT = (CONF / "config.yaml").read_text("utf-8")


def test_comment_names_all_actions():
    above = TEXT.partition("\naction: ")[0].splitlines()[-1]
    assert above.removeprefix("# ").split(" | ") == list(ACTIONS)


def test_comment_names_all_formats_of_exports():
    (line,) = [each for each in TEXT.splitlines() if each.startswith("  format: ")]
    known = typing.get_args(typing.get_type_hints(Export)["format"])
    assert line.partition("# ")[2].split(" | ") == list(known)

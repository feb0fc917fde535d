"""Any combination of shipped configs composes, and is either faultless or says what is wrong."""

from hypothesis import strategies as st

import parcnet_train
from fuzzing import ends_well, fuzz
from parcnet_train.config.compose import CONF

GROUPS = {
    group.name: sorted(
        file.relative_to(group).with_suffix("").as_posix() for file in group.rglob("*.yaml")
    )
    for group in sorted(CONF.iterdir())
    if group.is_dir() and group.name not in ("hydra", "schema")
}
ACTIONS = (
    "fit",
    "test",
    "predict",
    "average",
    "export",
    "release",
    "profile",
    "benchmark",
    "report",
    "check",
)
SOMETIMES = sorted(GROUPS.keys() - {"task", "backbone"})


@st.composite
def command_lines(draw):
    chosen = ["task", "backbone", *draw(st.lists(st.sampled_from(SOMETIMES), max_size=5))]
    line = []
    for group in dict.fromkeys(chosen):
        names = GROUPS[group]
        name = draw(st.sampled_from([*names, "null"]))
        if draw(st.integers(0, 9)) == 0:
            name = "[" + ",".join(draw(st.lists(st.sampled_from(names), max_size=3))) + "]"
        line.append(f"{group}={name}")
    if draw(st.booleans()):
        line.append(f"action={draw(st.sampled_from(ACTIONS))}")
    if draw(st.integers(0, 3)) == 0:
        line.append("recipe.image_size=64")
    return draw(st.permutations(line))


@fuzz(8, command_lines())
def test_combinations_of_configs_are_checked_or_explained(line):
    ends_well(lambda: parcnet_train.compose(*line, "paths.cache=/nowhere"), "=")

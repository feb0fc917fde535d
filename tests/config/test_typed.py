"""Sections of a configuration as objects."""

import pytest

from parcnet_train.config.action_sections import Benchmark, Check, Export, Predict, Profile, Report
from parcnet_train.config.sections import Checkpoint, Epochs, Finetuning, Paths, Recipe
from parcnet_train.config.typed import reads_data, run_spec, section
from parcnet_train.runs.directories import RunSpec
from running import composed

KINDS = (Benchmark, Check, Checkpoint, Export, Paths, Predict, Profile, Report)


@pytest.mark.parametrize("kind", KINDS)
def test_section_has_the_values_of_the_configuration(kind):
    config = composed()
    assert vars(section(kind, config)) == config[kind.__name__.lower()]


def test_sections_within_a_recipe_are_objects():
    config = composed("recipe.epochs={at_least:3,images:40}", "task=detection")
    recipe, values = section(Recipe, config), config["recipe"]
    assert recipe.epochs == Epochs(3, 40)
    assert vars(recipe.finetuning) == values["finetuning"]
    assert recipe.finetuning == section(Finetuning, values)
    assert recipe.optimizer == values["optimizer"]  # `build.py` makes an object of it
    assert "mixing" not in values
    assert recipe.mixing is None
    assert section(Recipe, composed("recipe.epochs=3")).epochs == 3


def test_run_spec_has_the_values_that_name_a_run():
    typed = ["task=detection", "ckpt=null", "paths.runs=here"]
    config = composed(*typed)
    data = config["choices"]["data"]
    assert run_spec(config) == RunSpec("fit", None, "here", "detection", "parcnet_s", data, typed)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"action": "fit"}, True),
        ({"action": "profile"}, False),
        ({"action": "benchmark", "benchmark": {"target": "loader"}}, True),
        ({"action": "benchmark", "benchmark": {"target": "operator"}}, False),
        ({"action": "benchmark", "benchmark": None}, False),
        ({"action": "export", "export": {"verify": "none", "precision": "float32"}}, False),
        ({"action": "export", "export": {"verify": "none", "precision": "int8"}}, True),
        ({"action": "export"}, False),
        ({"action": "fitt"}, True),
    ],
    ids=str,
)
def test_data_are_read_if_the_action_needs_them(values, expected):
    assert reads_data(values) == expected

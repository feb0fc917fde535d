"""The schema files in `conf/schema`, as editors and checkers use them."""

import json
import re
import subprocess
import sys

import pytest

from parcnet_train.config.compose import CONF
from parcnet_train.config.group_schemas import GLOBAL, GROUPS, schemas_of

FILES = [file for file in sorted(CONF.rglob("*.yaml")) if "hydra" not in file.parts]
MODELINE = re.compile(r"^# yaml-language-server: \$schema=(\S+)$", re.MULTILINE)


def schema_of(file):
    """The schema that a file names for itself."""
    return (file.parent / MODELINE.search(file.read_text())[1]).resolve()


def check(schema, *files):
    """Runs the checker of JSON Schema on files."""
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(schema), *files]
    return subprocess.run(command, capture_output=True, text=True)


def test_shipped_schemas_are_those_of_the_code():
    # `make schema` writes them anew.
    for name, schema in json.loads(json.dumps(schemas_of(CONF))).items():
        assert json.loads((CONF / "schema" / f"{name}.json").read_text()) == schema, name


def test_every_file_names_the_schema_of_its_package():
    for file in FILES:
        is_global = "@package _global_" in file.read_text() or file.parent == CONF
        group = file.relative_to(CONF).parts[0]
        wanted = GLOBAL if is_global or group not in GROUPS else group
        assert schema_of(file) == (CONF / "schema" / f"{wanted}.json").resolve(), file


@pytest.mark.parametrize("name", [GLOBAL, *GROUPS])
def test_every_file_is_accepted(name):
    schema = (CONF / "schema" / f"{name}.json").resolve()
    files = [str(file) for file in FILES if schema_of(file) == schema]
    assert files
    checked = check(schema, *files)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("backbone", "defaults: [parcnet_s, _self_]\nstem_chanels: [16, 32, 64]\n"),
        ("recipe", "optimizer: {lr: 0}\n"),
        ("recipe", "augmentation: {flip: 2.0}\n"),
        (GLOBAL, "recipe: {image_sise: 96}\n"),
        (GLOBAL, "trainer: {max_epochs: many}\n"),
    ],
)
def test_wrong_keys_and_values_are_rejected(name, text, tmp_path):
    (tmp_path / "wrong.yaml").write_text(text)
    assert check(CONF / "schema" / f"{name}.json", str(tmp_path / "wrong.yaml")).returncode == 1


def test_classes_of_your_own_are_accepted(tmp_path):
    (tmp_path / "own.yaml").write_text("_target_: mine.Backbone\nchannels: 64\n")
    assert check(CONF / "schema" / "backbone.json", str(tmp_path / "own.yaml")).returncode == 0

"""The reference of the configuration in `docs/`, against the schemas and `conf/`."""

import re
from pathlib import Path

import pytest

from parcnet_train.config.compose import CONF, SCHEMA
from parcnet_train.config.keys import MISSING
from parcnet_train.config.reference import default, escaped, in_yaml, link, reference_of, text_of
from parcnet_train.config.schema import read_schema

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
LINES = PAGE.read_text().splitlines()
ROWS = [re.split(r"(?<!\\)\|", line)[1:-1] for line in LINES if line.startswith("| `")]
HEADINGS = [line.lstrip("# ") for line in LINES if line.startswith("#")]


def test_shipped_reference_is_that_of_the_schemas():
    # `make schema` writes it anew.
    assert PAGE.read_text() == reference_of(CONF, read_schema(SCHEMA))


def test_every_class_and_every_section_has_a_heading():
    schema = read_schema(SCHEMA)
    names = {name for line in HEADINGS for name in re.split(": |, ", line)}
    assert names >= {name.rpartition(".")[2] for name in schema["$defs"]}
    sections = {key for key, each in schema["properties"].items() if "properties" in each}
    assert names >= sections


def test_every_choice_has_a_description():
    files = {f"{file.parent.name}={file.stem}" for file in CONF.glob("*/*.yaml")}
    assert {row[0].strip(" `") for row in ROWS if len(row) == 2} == files
    assert all(row[1].strip() for row in ROWS if len(row) == 2)


def test_every_key_has_a_type_a_default_and_a_meaning():
    rows = [row for row in ROWS if len(row) != 2]
    assert len(rows) > 250
    assert [row for row in rows if len(row) != 4 or not all(cell.strip() for cell in row)] == []
    assert [row for row in rows if "another value" in row[1]] == []


def test_links_lead_to_headings_that_are_unique():
    anchors = [link(heading).partition("(")[2] for heading in HEADINGS]
    assert len(set(anchors)) == len(anchors)
    assert {f"{found})" for found in re.findall(r"\]\((#[^)]*)\)", PAGE.read_text())} <= set(
        anchors
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1e-6, "0.000001"),
        ("train", "train"),
        ("", '""'),
        ([0.5, "a.[34]"], '[0.5, "a.[34]"]'),
        ({"mixup": 0.2}, "{mixup: 0.2}"),
    ],
)
def test_values_are_written_as_in_yaml(value, text):
    assert in_yaml(value) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"a": 1, "b": 1}, "`1`"),
        ({"a": 1, "b": 1, "c": 2}, "`1`<br>`2` in `data=c`"),
        ({"a": 1, "b": 2}, "`1` in `data=a`<br>`2` in `data=b`"),
        ({"a": MISSING}, "`3`"),
        ({"a": "???"}, "must be given"),
    ],
)
def test_defaults_name_the_choices_that_differ(values, text):
    assert default("data.size", {"default": 3}, values) == text


def test_a_key_without_a_default_has_a_dash():
    assert default("data.size", {}, {"a": MISSING}) == "—"


def test_texts_are_escaped_except_in_code():
    assert escaped("a*b <c> _target_ `x*_y`") == r"a\*b &lt;c> \_target\_ `x*_y`"
    assert (
        text_of({"description": "``x``; None: off, see :class:`~a.B`"}) == "`x`; null: off, see `B`"
    )

"""Faults against a JSON Schema, without a composed configuration."""

import pytest

from parcnet_train.config.schema import faults_of, fits, words_of

WHOLE = {"type": "integer", "minimum": 1}
SCHEMA = {
    "type": "object",
    "properties": {"epochs": WHOLE, "ema": {"anyOf": [WHOLE, {"type": "null"}]}},
    "required": ["epochs"],
    "additionalProperties": False,
}


def faults(config, borrowed=()):
    return [fault.key for fault in faults_of(config, SCHEMA, lambda name: None, borrowed)]


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        ({"epochs": 3, "ema": None}, []),
        ({"epochs": 0}, ["epochs"]),
        ({"epochs": 3, "epoch": 1}, ["epoch"]),
        ({"ema": "x"}, ["ema", "epochs"]),
    ],
    ids=str,
)
def test_faults_name_their_keys(config, keys):
    assert faults(config) == keys


def test_borrowed_keys_have_no_faults():
    assert faults({"epochs": 0}, borrowed=["epochs"]) == []
    assert faults({}, borrowed=["epochs"]) == []


def test_a_key_that_is_nearly_right_is_proposed():
    (fault,) = faults_of({"epochs": 1, "epoch": 3}, SCHEMA, lambda name: None)
    assert "did you mean epochs?" in str(fault)


@pytest.mark.parametrize("value", [True, 1.0, "1"])
def test_only_whole_numbers_are_integers(value):
    assert not fits(value, WHOLE)


def test_ascending_lists_do_not_fall():
    schema = {"type": "array", "items": {"type": "number"}, "ascending": True}
    assert fits([1, 1, 2], schema)
    assert not fits([2, 1], schema)
    assert not fits(["a", "b"], schema)


def test_bounds_are_shown_in_words():
    assert words_of(WHOLE) == "a whole number of at least 1"

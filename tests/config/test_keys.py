"""Dotted keys."""

import pytest

from parcnet_train.config.keys import MISSING, flatten, show, value_of

CONFIG = {"seed": 0, "recipe": {"optimizer": {"lr": 0.1}, "ema": None}}


def test_leaves_have_dotted_keys():
    assert flatten(CONFIG) == {"seed": 0, "recipe.optimizer.lr": 0.1, "recipe.ema": None}


def test_values_are_found_by_dotted_keys():
    assert value_of(CONFIG, "recipe.optimizer.lr") == 0.1
    assert value_of(CONFIG, "recipe.ema") is None
    for key in ("lr", "recipe.ema.decay", "seed.lr", "recipe.optimizer.weight_decay"):
        assert value_of(CONFIG, key) is MISSING


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "a.b=null"),
        (True, "a.b=true"),
        (False, "a.b=false"),
        (0, "a.b=0"),
        (1, "a.b=1"),
        ([1, 2], "a.b=[1,2]"),
        ("x", "a.b=x"),
    ],
)
def test_values_are_shown_as_they_are_typed(value, text):
    assert show("a.b", value) == text

"""Bounds of configuration values, as the JSON Schema has them."""

import pytest

from parcnet_train import bounds
from parcnet_train.config.generate import schema_of_type
from parcnet_train.config.schema import fits


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("Positive", [0.1, 1, 1e9], [0, -1, "x", True, float("nan"), float("inf")]),
        ("NotNegative", [0, 2.5], [-0.1, None]),
        ("Probability", [0, 1, 0.5], [-0.1, 1.1]),
        ("Share", [0, 0.99], [1, -0.1]),
        ("PositiveShare", [0.1, 1], [0, 1.1]),
        ("Count", [1, 7], [0, 1.5, True]),
        ("Whole", [0, 7], [-1, 0.5]),
        ("Odd", [1, 3], [2, -1]),
        ("BatchSize", [2, 64], [1]),
        ("Pixels", [32, [32, 64]], [0, [32], [32, 0], "big"]),
        ("ShareRange", [[0.1, 0.5], [1, 1]], [[0.5, 0.1], [0, 1], [0.5]]),
        ("Text", ["a"], ["", 3]),
    ],
)
def test_values_fit_their_bounds(name, inside, outside):
    schema = schema_of_type(getattr(bounds, name))
    assert [value for value in inside if not fits(value, schema)] == []
    assert [value for value in outside if fits(value, schema)] == []

"""Lowest precision of computations."""

import pytest
import torch

from parcnet_train.precision import at_least_float32


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.uint8, torch.float32),
    ],
)
def test_only_types_narrower_than_float32_are_converted(given, expected):
    values = torch.tensor([1, 2, 3], dtype=given)
    assert at_least_float32(values).dtype == expected
    assert at_least_float32(values).tolist() == [1, 2, 3]

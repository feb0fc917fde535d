"""Image sizes and channel counts."""

import pytest
from torchvision.models._utils import _make_divisible

from parcnet_train.sizes import make_divisible


@pytest.mark.parametrize("divisor", [4, 8, 16, 32])
def test_make_divisible_matches_torchvision(divisor):
    for value in (tenths / 10 for tenths in range(1, 6000, 3)):
        assert make_divisible(value, divisor) == _make_divisible(value, divisor)

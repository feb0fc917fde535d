"""Global random generators of the process."""

import contextlib
import random

import numpy as np
import torch


def seed():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def draw():
    return random.random(), np.random.random(), torch.rand(1)


@contextlib.contextmanager
def left_alone():
    """Assert that the code in this context draws no numbers from the global generators."""
    seed()
    expected = draw()
    seed()
    yield
    assert draw() == expected

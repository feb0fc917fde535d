"""Results of a function that threads compute."""

import threading

import pytest

from parcnet_train.distributed.threads import BLOCK, in_threads


def test_results_are_in_order():
    items = range(2 * BLOCK + 3)
    assert list(in_threads(lambda n: n * n, items)) == [n * n for n in items]
    assert list(in_threads(str, [], "none")) == []


def test_function_runs_in_threads_and_its_errors_reach_the_caller():
    (name,) = in_threads(lambda _: threading.current_thread().name, [0])
    assert name != threading.current_thread().name
    with pytest.raises(ValueError, match="invalid literal"):
        list(in_threads(int, ["1", "x"]))


def test_only_a_block_is_read_ahead():
    begun = []
    assert next(in_threads(begun.append, range(10 * BLOCK))) is None
    assert len(begun) <= BLOCK

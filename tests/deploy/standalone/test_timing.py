"""Timed rounds, and the machine that they run on."""

import itertools
import os
import random
import statistics
import threading

import numpy as np
import pytest

from parcnet_train.deploy.standalone import timing
from parcnet_train.deploy.standalone.timing import (
    in_rounds,
    pinned,
    single_stream,
    summary,
)
from parcnet_train.deploy.standalone.workers import WorkerError

NEEDS_AFFINITY = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="the system cannot bind processes to cores"
)


def unexpected(name, error):
    raise AssertionError(name) from error


def test_rounds_are_shuffled():
    calls = []
    runs = {name: lambda name=name: calls.append(name) or len(calls) for name in "abc"}
    random.seed(0)
    times = in_rounds(runs, unexpected, iterations=7, warmup=3)
    turns = ["".join(calls[start : start + 3]) for start in range(0, len(calls), 3)]
    assert len(turns) == 10
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len(set(turns)) > 2
    assert sorted(itertools.chain(*times.values())) == list(
        range(10, 31)
    )  # the first three rounds are not


def test_a_stream_ends_when_both_minimums_are_reached():
    """5 ms: 200 inferences in a second. 50 ms: 20 of them, so that the number of images counts."""
    blocks = []

    def run(name, milliseconds, places):
        blocks.append((name, len(places)))
        assert all(0 <= place < 7 for place in places)
        return [milliseconds] * len(places)

    runs = {
        "fast": lambda places: run("fast", 5, places),
        "slow": lambda places: run("slow", 50, places),
    }
    random.seed(0)
    times = single_stream(runs, unexpected, 7, least_images=100, least_seconds=1.0, block=10)
    assert {name: len(each) for name, each in times.items()} == {"fast": 200, "slow": 100}
    assert {size for _, size in blocks} == {10}
    names = [name for name, _ in blocks]
    assert all(sorted(names[at : at + 2]) == ["fast", "slow"] for at in range(0, 20, 2))
    assert len({tuple(names[at : at + 2]) for at in range(0, 20, 2)}) == 2
    assert names[20:] == ["fast"] * 10


def test_a_stream_draws_its_images():
    seen = []
    runs = {"a": lambda places: seen.extend(places) or [1.0] * len(places)}
    single_stream(runs, unexpected, 10, 640, 0)
    assert len(seen) == 640
    assert set(seen) == set(range(10))
    assert seen[:10] != sorted(seen[:10])


@pytest.mark.parametrize("is_stream", [False, True])
def test_files_that_fail_while_they_are_timed_are_left_out(is_stream):
    given, left_out = [], {}

    def run(name, count):
        given.append(name)
        if name == "bad" and given.count("bad") == 3:
            raise WorkerError("gone")
        return [1.0] * count

    def timed(*names):
        leave_out = left_out.__setitem__
        if is_stream:
            runs = {name: lambda places, name=name: run(name, len(places)) for name in names}
            return single_stream(runs, leave_out, 7, least_images=100, least_seconds=0, block=10)
        runs = {name: lambda name=name: run(name, 1)[0] for name in names}
        return in_rounds(runs, leave_out, iterations=100, warmup=0)

    assert timed("good", "bad") == {"good": [1.0] * 100}
    assert (given.count("bad"), list(left_out)) == (3, ["bad"])
    given.clear()
    with pytest.raises(WorkerError, match="no file is left"):
        timed("bad")


def test_percentiles_match_the_standard_library():
    times = np.random.default_rng(0).exponential(size=100).tolist()
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    assert summary(times) == pytest.approx(
        {
            "milliseconds": statistics.median(times),
            "milliseconds_p90": cuts[89],
            "milliseconds_p99": cuts[98],
            "milliseconds_min": min(times),
        }
    )


@NEEDS_AFFINITY
def test_threads_are_pinned_to_the_last_cores_and_released():
    before = os.sched_getaffinity(0)
    done = threading.Event()
    older = threading.Thread(target=done.wait)
    older.start()
    try:
        with pinned(1) as cores:
            assert cores == [max(before)]
            assert os.sched_getaffinity(0) == os.sched_getaffinity(older.native_id) == set(cores)
        assert os.sched_getaffinity(0) == os.sched_getaffinity(older.native_id) == before
    finally:
        done.set()
        older.join()


def test_pinning_yields_none_on_systems_without_support(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pinned(1) as cores:
        assert cores is None
    assert timing.machine(1, None)["hardware/pinned_to"] is None


def test_machine_is_described(monkeypatch):
    told = {"/proc/device-tree/model": "Raspberry Pi 5", "/proc/cpuinfo": "Hardware\t: BCM2835\n"}
    told["/sys/devices/system/cpu/cpu3/cpufreq/scaling_governor"] = "ondemand"
    monkeypatch.setattr(timing, "words_of", lambda path: told.get(str(path)))
    found = timing.machine(2, [3, 4])
    assert found["hardware/cpu"] == "BCM2835"
    assert found["hardware/board"] == "Raspberry Pi 5"
    assert found["hardware/governor"] == "ondemand"
    assert found["hardware/largest_khz"] is None
    assert (found["hardware/threads"], found["hardware/pinned_to"]) == (2, [3, 4])
    assert found["numpy_version"] == np.__version__
    assert found["mnn_version"]

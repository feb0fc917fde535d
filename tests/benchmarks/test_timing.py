"""Interleaved timing, medians and ratios."""

import pytest
import torch

from parcnet_train.benchmarks import timing
from parcnet_train.benchmarks.timing import Timing, device_of, hardware, take_turns

CPU = torch.device("cpu")


def test_variants_warm_up_and_are_interleaved_in_changing_order():
    calls = []
    variants = {name: lambda name=name: calls.append(name) for name in "abcdef"}
    timings = take_turns(variants, repeats=9, device=CPU)
    turns = [calls[start : start + 6] for start in range(0, 60, 6)]
    assert all(sorted(turn) == sorted(variants) for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
    assert list(timings) == list(variants)
    assert all(len(each.milliseconds) == 9 for each in timings.values())


@pytest.fixture
def sleep(monkeypatch):
    """Advance a clock that nothing else moves."""
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def move(seconds):
        clock[0] += seconds

    return move


def test_time_of_several_calls_is_their_mean(sleep):
    (slept,) = take_turns({"": lambda: sleep(0.004)}, 2, CPU, calls=3).values()
    assert slept.milliseconds == pytest.approx((4, 4))


def test_fast_variant_is_called_until_a_turn_is_long_enough(sleep):
    calls = {"short": 0, "long": 0}

    def run(name, seconds):
        calls[name] += 1
        sleep(seconds)

    variants = {"short": lambda: run("short", 0.004), "long": lambda: run("long", 0.02)}
    timings = take_turns(variants, 3, CPU, least=10)
    assert calls == {"short": 2 + 3 * 3, "long": 2 + 3}
    assert timings["short"].milliseconds == pytest.approx((4, 4, 4))


def test_slower_variant_has_a_ratio_below_one(sleep):
    variants = {"short": lambda: sleep(0.002), "long": lambda: sleep(0.02)}
    timings = take_turns(variants, 3, CPU)
    assert timings["long"].results(timings["short"])["ratio"] == pytest.approx(0.1)


def test_median_spread_ratio_and_sum():
    a, b = Timing((1.0, 9.0, 2.0)), Timing((3.0, 1.0, 30.0))
    assert b.results(a) == {
        "milliseconds": 3.0,
        "milliseconds_min": 1.0,
        "milliseconds_max": 30.0,
        "ratio": 2 / 3,
    }
    assert b.words(a) == "3.00 (1.00-30.0) 0.67x"
    assert (a + b).milliseconds == (4.0, 10.0, 32.0)
    assert a.relative_to(b) == 1 / 3
    assert b.relative_to(a) == 3
    assert Timing((0.01234, 1234.0)).words(a) == "617 (0.012-1234) 0.00x"


@pytest.mark.parametrize(
    ("accelerator", "current", "device"),
    [
        ("auto", None, "cpu"),
        ("auto", "cuda", "cuda"),
        ("cpu", "cuda", "cpu"),
        ("gpu", "cuda", "cuda"),
        ("cuda", "cuda", "cuda"),
        ("mps", "mps", "mps"),
    ],
)
def test_accelerator_names_map_to_devices(accelerator, current, device, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: current is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(current))
    assert device_of(accelerator) == torch.device(device)


def test_accelerators_are_synchronized(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waits.append)
    take_turns({"": lambda: None}, 2, torch.device("cuda"))
    assert waits == [torch.device("cuda")] * 6
    timing.wait_for(CPU)
    assert len(waits) == 6


def test_hardware_is_described():
    named = hardware(CPU)
    assert named["hardware/threads"] == torch.get_num_threads()
    assert named["hardware/cpu"]
    assert (named["hardware/device"], named["hardware/gpu"]) == ("cpu", None)

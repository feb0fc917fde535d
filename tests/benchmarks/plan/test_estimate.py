"""Arithmetic of `benchmark.target=plan`, with numbers computed by hand."""

import pytest

from parcnet_train.benchmarks.plan.estimate import (
    Cost,
    Estimate,
    Work,
    efficiency,
    estimate,
    largest_useful,
    ring_all_reduce,
    workers_needed,
)
from parcnet_train.benchmarks.plan.timeline import Evaluation, Step
from parcnet_train.data.samplers import Scale

SMALL, LARGE = Scale((160, 160), 10), Scale((320, 320), 10)


def cost(**changes):
    values = {
        "steps": {SMALL: [Step(1.0, 0.25), Step(3.0, 0.75)]},
        "evaluation": Evaluation(batches=6.0, computing=2.0, rest=1.0),
        "evaluated": 4,
        "checkpoint": 0.5,
        "epoch": 0.125,
        "fixed": 7.0,
    }
    return Cost(**{**values, **changes})


def work(**changes):
    values = {
        "epochs": 8,
        "steps": {SMALL: 20},
        "updates": 10,
        "evaluations": 3,
        "evaluated": 4,
        "checkpoints": 6,
        "global_batch": 10,
    }
    return Work(**{**values, **changes})


def test_time_is_the_sum_of_counts_and_costs():
    found = estimate(work(), cost(), exchange=0.5)
    assert found == Estimate(
        device=20 * 1.5, loader=20 * 0.5, exchange=5, evaluation=27, saving=3, epochs=1, fixed=7
    )
    assert found.total == 83
    assert found.bottleneck == "device"


def test_longer_evaluation_has_more_batches_and_more_to_compute():
    # Three batches lasted six seconds, the metrics of four lasted two.
    assert cost().evaluate(4) == 9
    assert cost().evaluate(8) == 1 + 7 * 2 + 4


def test_size_that_was_not_measured_costs_its_pixels():
    assert cost().step(LARGE) == Step(8.0, 2.0)
    assert cost().step(SMALL) == Step(2.0, 0.5)


def test_step_of_another_batch_is_that_of_the_same_image_size():
    # 40 images of 160x160 pixels are as many pixels as 10 of 320x320, which were measured, too.
    measured = cost(steps={SMALL: [Step(3.0, 0.5)], LARGE: [Step(8.0, 1.0)]})
    assert measured.step(Scale((160, 160), 40)) == Step(12.0, 2.0)


def test_pace_is_that_of_a_device_that_never_waits():
    assert cost().pace({SMALL: 20}) == pytest.approx(10 / 1.5)
    # 10 images of 1.5 s, and 10 images of 6 s.
    assert cost().pace({SMALL: 1, LARGE: 1}) == pytest.approx(20 / 7.5)


def test_ring_all_reduce_moves_the_gradients_nearly_twice():
    assert ring_all_reduce(1, 1000, 10.0) == 0
    assert ring_all_reduce(2, 1000, 10.0) == 100
    assert ring_all_reduce(4, 1000, 10.0) == 150


def halved(devices):
    return Estimate(
        device=1024 / devices,
        loader=0.0,
        exchange=0.0,
        evaluation=0.0,
        saving=64.0,
        epochs=0.0,
        fixed=0.0,
    )


def test_devices_are_useful_while_they_are_half_as_efficient_as_one():
    # 1088 / (n (1024 / n + 64)) is 0.53 for 16 devices and 0.354 for 32.
    assert efficiency(halved(1), halved(16), 16) == pytest.approx(1088 / (1024 + 16 * 64))
    assert largest_useful(halved) == (16, "saving")


@pytest.mark.parametrize(("device", "worker", "expected"), [(100, 30, 4), (100, 50, 2), (1, 50, 1)])
def test_workers_read_as_fast_as_the_device_trains(device, worker, expected):
    assert workers_needed(device, worker) == expected

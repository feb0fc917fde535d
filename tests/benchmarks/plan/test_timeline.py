"""Times of the parts of a training, from events at known times."""

import pytest
import torch

from parcnet_train.benchmarks.plan import timeline
from parcnet_train.benchmarks.plan.timeline import EPOCH, FETCH, FETCH_EVALUATED, SAVE, Timeline

BEGIN = "[Strategy]SingleDeviceStrategy.on_validation_start"
METRICS = "[LightningModule]ClassificationTask.on_validation_epoch_end"


class Clock:
    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timeline, "time", clock)
    return clock


def act(times, clock, name, seconds):
    times.start(name)
    clock.now += seconds
    times.stop(name)


def epoch(times, clock):
    """Two batches of 2 and 3 s of waiting and 10 and 20 s of work; an evaluation of 9 s."""
    times.start(EPOCH)
    clock.now += 1
    act(times, clock, FETCH, 2)
    clock.now += 10
    act(times, clock, SAVE, 4)
    act(times, clock, FETCH, 3)
    clock.now += 20
    act(times, clock, BEGIN, 0)
    clock.now += 1
    for _ in range(3):
        act(times, clock, FETCH_EVALUATED, 0.5)
        clock.now += 1.5
    act(times, clock, METRICS, 2)
    times.stop(EPOCH)
    clock.now += 0.5
    act(times, clock, SAVE, 5)
    clock.now += 100  # not a part of any epoch


def test_parts_of_an_epoch(clock):
    times = Timeline(torch.device("cpu"))
    epoch(times, clock)
    epoch(times, clock)
    for number in (0, 1):
        first, last = times.steps(number)
        assert (first.seconds, first.waited) == (13, 3)  # without the checkpoint
        assert (last.seconds, last.waited) == (20, 0)  # without the evaluation
        assert times.saved(number) == [4, 5]
        evaluation = times.evaluation(number)
        assert (evaluation.batches, evaluation.computing, evaluation.rest) == (4, 2, 3)
        # 1 s and 2 s before the first batch is there, and 0.5 s before the last checkpoint.
        assert times.rest_of_epoch(number) == 3.5


def test_a_busy_device_has_not_waited(clock, monkeypatch):
    def finish(_):
        clock.now += 1  # the device still works when the batch is there

    monkeypatch.setattr(timeline, "wait_for", finish)
    times = Timeline(torch.device("cpu"))
    times.start(EPOCH)
    act(times, clock, FETCH, 2)
    clock.now += 10
    act(times, clock, FETCH, 3)
    times.stop(EPOCH)
    first, _ = times.steps(0)
    assert (first.seconds, first.waited) == (14, 0)


def test_other_parts_of_lightning_are_left_out(clock):
    times = Timeline(torch.device("cpu"))
    act(times, clock, "[Callback]EMA.on_train_batch_end", 1)
    act(times, clock, "[Strategy]SingleDeviceStrategy.training_step", 1)
    times.stop(SAVE)
    assert times.spans == []

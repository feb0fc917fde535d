import logging
import re

import pytest

from parcnet_train import terminal as pulse
from parcnet_train.callbacks.progress import EveryMinute
from parcnet_train.data.prepare import sources as preparing
from parcnet_train.terminal import Lines, duration
from running import TINY, run


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by one that only moves when it is set."""
    now = [0.0]
    monkeypatch.setattr(pulse, "clock", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00:00"), (3723.4, "1:02:03"), (86_399, "23:59:59"), (86_400 * 4 + 60_000, "4d 16h")],
)
def test_durations_have_at_most_eight_characters(seconds, text):
    assert duration(seconds) == text


def test_a_line_per_minute_shows_progress_pace_and_time_left(clock, capsys):
    with Lines("reading", 1000) as lines:
        for seconds in range(0, 130, 10):
            clock[0] = float(seconds)
            lines.update(5)
    assert capsys.readouterr().err.splitlines() == [
        "reading: 35 of 1,000 images, 0.583 images/s, 0:27:34 left",
        "reading: 65 of 1,000 images, 0.542 images/s, 0:28:46 left",
    ]


def test_progress_of_less_than_a_minute_prints_nothing(clock, capsys):
    with Lines("reading", 3) as lines:
        clock[0] = 59.0
        lines.update(3)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("is_terminal", [False, True])
def test_progress_is_a_bar_in_a_terminal_and_lines_elsewhere(is_terminal, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal, raising=False)
    with preparing.progress("reading", 3) as shown:
        assert isinstance(shown, Lines) != is_terminal


def test_epochs_and_evaluations_log_lines_without_a_terminal(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    ticks = iter(range(0, 100_000, 30))
    monkeypatch.setattr(pulse, "clock", lambda: float(next(ticks)))
    run([*TINY, "trainer.limit_train_batches=4", "trainer.limit_val_batches=3"], tmp_path)
    number = r"[\d.]+(e[+-]\d+)?"
    lines = [record.message for record in caplog.records if "batch" in record.message]
    training = [line for line in lines if line.startswith("epoch")]
    start = r"epoch 1/1, batch [1-4]/4, step [1-4]: "
    pattern = rf"{start}loss {number}, lr {number}, {number} images/s, \S+ left"
    assert training
    assert all(re.fullmatch(pattern, line) for line in training), training
    evaluation = [line for line in lines if line.startswith("validation")]
    pattern = rf"validation: batch [1-3]/3, {number} images/s, \d:\d\d:\d\d left"
    assert evaluation
    assert all(re.fullmatch(pattern, line) for line in evaluation), evaluation


def test_a_short_training_logs_no_progress_lines(clock, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run(TINY, tmp_path)
    assert not [record for record in caplog.records if ", batch " in record.message]
    assert EveryMinute().pulse.started == 0.0

"""A run that hangs ends, and says which process, line or logger hangs."""

import re
import threading
from types import SimpleNamespace

import pytest
from pytorch_lightning.loggers import CSVLogger

from hanging import command, only_error
from parcnet_train.callbacks import watchdog
from parcnet_train.callbacks.watchdog import Watchdog, watched
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.runs.directories import OUTCOME
from parcnet_train.runs.loggers import harmless

LIMIT = 0.002  # minutes
SOON = 60  # seconds; the limit of a test, which ends much earlier


@pytest.fixture
def exits(monkeypatch):
    """Collect exit codes instead of ending this process."""
    codes = []
    monkeypatch.setattr(watchdog.os, "_exit", codes.append)
    return codes


def run_with(watchdog_of_run, act):
    """Run something as a training with a watchdog would."""
    trainer = SimpleNamespace(callbacks=[watchdog_of_run], global_rank=0, world_size=1)
    with watched(trainer):
        watchdog_of_run.setup(trainer, None, "fit")
        act()


def test_run_that_hangs_is_ended_and_its_line_is_named(exits, tmp_path, capfd, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(watchdog.os, "_exit", lambda code: (exits.append(code), ended.set()))
    run_with(Watchdog(LIMIT, tmp_path), lambda: ended.wait(SOON))
    assert exits[0] == 2
    (line, *_) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: trainer.timeout_minutes={LIMIT}: the run made no progress")
    assert re.search(r"threading\.py:\d+ \(wait\)\. Fix: ", line)
    assert "no progress" in (tmp_path / OUTCOME).read_text()


def test_blocked_logger_is_named(exits, tmp_path, capfd, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(watchdog.os, "_exit", lambda code: ended.set())

    class Blocked(CSVLogger):
        def log_metrics(self, metrics, step=None):
            ended.wait(SOON)

    logger = harmless(Blocked(tmp_path))
    run_with(Watchdog(LIMIT, tmp_path), lambda: logger.log_metrics({"a": 1.0}))
    assert ", called by Blocked. Fix: " in capfd.readouterr().err


def test_run_that_goes_on_is_not_ended(exits, tmp_path):
    each = Watchdog(10 * LIMIT, tmp_path)

    def work():
        for _ in range(100):
            threading.Event().wait(60 * LIMIT / 5)
            each.on_train_batch_start()

    run_with(each, work)
    assert exits == []


def test_thread_ends_with_the_run(exits, tmp_path):
    run_with(Watchdog(LIMIT, tmp_path), lambda: None)
    watching = [each for each in threading.enumerate() if each.name.endswith("(_watch)")]
    for thread in watching:
        thread.join(SOON)
    assert not any(thread.is_alive() for thread in watching)
    assert exits == []


DDP = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.num_workers=0")
SHORT = "trainer.timeout_minutes=0.15"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("stop", r"process 1 \(pid \d+ on \S+\) is stopped or gone, and the others wait for it"),
        (
            "sleep",
            r"process 1 \(pid \d+ on \S+\), for which the others wait, made no progress for that "
            r"long; it is at \S*hanging\.py:\d+ \(sleep\)",
        ),
        ("fill_memory", r"process 1 ran out of memory \(MemoryError\)"),
    ],
)
def test_process_that_hangs_or_has_no_memory_is_named(what, message, tmp_path):
    fault = f"+callbacks.fault={{_target_:hanging.At,step:3,what:{what},rank:1}}"
    line = only_error(command(tmp_path, *DDP, SHORT, fault))
    assert re.search(message, line)
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["position"]["step"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("method", ["log_metrics", "finalize"])
def test_command_with_a_blocked_logger_ends(method, tmp_path):
    logger = f"+logger.sleeping={{_target_:hanging.Sleeping,save_dir:{tmp_path},method:{method}}}"
    line = only_error(command(tmp_path / "run", SHORT, logger))
    assert re.search(r"hanging\.py:\d+ \(block\), called by Sleeping", line)
    kept = list((tmp_path / "run" / "checkpoints").glob("last.ckpt"))
    assert len(kept) == (method == "finalize")
    for file in kept:
        read_checkpoint(file)

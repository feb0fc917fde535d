"""When a training writes its checkpoints, and that it writes them atomically."""

import csv
import logging
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy

from parcnet_train.actions import fit as training
from parcnet_train.callbacks.saving import BestCheckpoint, BestEpochs, WholeFiles, requeue
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.errors import TrainingError
from parcnet_train.tasks.classification import ClassificationTask
from parcnet_train.visualize.curves import read_series
from running import TINY, run

LAST = "checkpoints/last.ckpt"
STEPS = [*TINY, "trainer.limit_train_batches=6", "trainer.max_epochs=2"]


def after_batch(batch, act):
    """Return a hook that does something once, after one batch of the first epoch."""

    def hook(task, outputs, images, batch_idx):
        if batch_idx == batch and task.current_epoch == 0:
            act()

    return hook


def signal_behind(monkeypatch, batch, number):
    """Let trainings send themselves a signal after that batch."""
    hook = after_batch(batch, lambda: os.kill(os.getpid(), number))
    monkeypatch.setattr(ClassificationTask, "on_train_batch_end", hook)


class Killed(BaseException):
    """An end like SIGKILL: nothing more is written."""


def kill():
    raise Killed


def position(folder):
    return read_checkpoint(folder / LAST)["position"]


def test_checkpoints_replace_the_previous_file_atomically(tmp_path):
    place = tmp_path / "new" / "last.ckpt"
    for number in (1, 2):
        WholeFiles().save_checkpoint({"number": number}, place)
        assert torch.load(place, weights_only=True) == {"number": number}
    assert [file.name for file in place.parent.iterdir()] == ["last.ckpt"]


def test_a_kill_while_writing_leaves_the_previous_file(tmp_path, monkeypatch):
    place = tmp_path / "last.ckpt"
    WholeFiles().save_checkpoint({"number": 1}, place)

    def half(checkpoint, file):
        file.write(b"half of it")
        raise Killed

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(Killed):
        WholeFiles().save_checkpoint({"number": 2}, place)
    monkeypatch.undo()
    assert torch.load(place, weights_only=True) == {"number": 1}
    WholeFiles().save_checkpoint({"number": 3}, place)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_full_disk_gives_one_line_and_keeps_the_previous_file(tmp_path, monkeypatch):
    place = tmp_path / "last.ckpt"
    WholeFiles().save_checkpoint({"number": 1}, place)

    def full(descriptor):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError, match=r"last.ckpt cannot be written: No space left on dev"):
        WholeFiles().save_checkpoint({"number": 2}, place)
    assert torch.load(place, weights_only=True) == {"number": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_fills_up_while_torch_writes_gives_the_same_line(tmp_path):
    (tmp_path / "last.ckpt.partial").symlink_to("/dev/full")
    with pytest.raises(TrainingError, match=r"last.ckpt cannot be written: No space left on dev"):
        WholeFiles().save_checkpoint({"weights": torch.zeros(10**6)}, tmp_path / "last.ckpt")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "killed_behind", "batch"),
    [
        (["checkpoint.every_n_steps=2"], 4, 4),
        (["checkpoint.every_n_steps=2"], 3, 4),
        (["checkpoint.every_n_steps=3"], 4, 3),
        # An optimizer step takes two batches; the gradients of half a step are not saved.
        (["checkpoint.every_n_steps=1", "recipe.accumulate=2"], 4, 4),
        (["checkpoint.every_minutes=1e-9"], 2, 3),
    ],
    ids=str,
)
def test_checkpoints_by_steps_and_minutes(overrides, killed_behind, batch, tmp_path, monkeypatch):
    step = batch // 2 if "recipe.accumulate=2" in overrides else batch
    monkeypatch.setattr(ClassificationTask, "on_train_batch_end", after_batch(killed_behind, kill))
    with pytest.raises(Killed):
        run([*STEPS, *overrides], tmp_path)
    assert position(tmp_path) == {"epoch": 0, "step": step, "samples": 4 * batch}


def test_by_default_the_first_checkpoint_is_that_of_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(ClassificationTask, "on_train_batch_end", after_batch(5, kill))
    with pytest.raises(Killed):
        run(STEPS, tmp_path)
    assert not (tmp_path / LAST).exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_saves_after_the_step_and_stops(number, code, tmp_path, monkeypatch, caplog):
    before = signal.getsignal(number)
    signal_behind(monkeypatch, 2, number)
    with caplog.at_level(logging.WARNING), pytest.raises(SystemExit) as caught:
        run(STEPS, tmp_path)
    assert caught.value.code == code
    assert f"stopped in epoch 1; to resume, repeat the command with ckpt={tmp_path}" in caplog.text
    # The signal came after the third batch; the next check is after the fourth.
    assert position(tmp_path) == {"epoch": 0, "step": 4, "samples": 16}
    assert signal.getsignal(number) == before


def test_a_signal_in_the_last_step_of_an_epoch_saves_the_epoch(tmp_path, monkeypatch):
    signal_behind(monkeypatch, 5, signal.SIGTERM)
    with pytest.raises(SystemExit):
        run(STEPS, tmp_path)
    assert position(tmp_path) == {"epoch": 1, "step": 0, "samples": 0}


def test_a_signal_in_the_last_step_does_not_stop_the_evaluation(tmp_path, monkeypatch):
    signal_behind(monkeypatch, 5, signal.SIGTERM)
    assert run([*STEPS, "trainer.max_epochs=1"], tmp_path)["epochs"] == 1


def test_a_requeued_job_resumes_with_the_same_command(tmp_path, monkeypatch):
    signal_behind(monkeypatch, 2, signal.SIGUSR1)
    with pytest.raises(SystemExit):
        run(STEPS, tmp_path)
    monkeypatch.undo()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert run(STEPS, tmp_path)["steps"] == 12
    assert read_series(tmp_path / "csv")["train/loss_step"][0] == list(range(12))
    # The second process began at the fourth batch, not at the first.
    with (tmp_path / "csv" / "version_1" / "metrics.csv").open() as stream:
        assert next(csv.DictReader(stream))["step"] == "4"


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """Put a replacement for SLURM's command on the path, which records its arguments."""
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/given\nexit $(cat {tmp_path}/code)\n')
    program.chmod(0o755)
    (tmp_path / "code").write_text("0")
    # The environment that srun sets for a single task.
    for name in ("SLURM_STEP_ID", "SLURM_PROCID", "SLURM_LOCALID"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_a_job_is_requeued_by_its_number(scontrol, monkeypatch):
    requeue()
    assert not (scontrol / "given").exists()  # nothing happens outside of SLURM
    monkeypatch.setenv("SLURM_JOB_ID", "1234")
    requeue()
    assert (scontrol / "given").read_text() == "requeue 1234\n"
    # The environment of one of several processes that the task started itself.
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    (scontrol / "given").unlink()
    requeue()
    assert (scontrol / "given").exists()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "1230")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    requeue()
    assert (scontrol / "given").read_text() == "requeue 1230_4\n"


def test_a_job_outside_srun_is_not_requeued(scontrol, monkeypatch, caplog):
    monkeypatch.setenv("SLURM_JOB_ID", "1234")
    monkeypatch.delenv("SLURM_STEP_ID")
    with caplog.at_level(logging.WARNING):
        requeue()
    assert "SLURM job 1234 is not requeued" in caplog.text
    assert "start the command with srun" in caplog.text
    assert not (scontrol / "given").exists()


def test_a_job_that_cannot_be_requeued_gives_a_warning(scontrol, monkeypatch, caplog):
    monkeypatch.setenv("SLURM_JOB_ID", "1234")
    (scontrol / "code").write_text("1")
    with caplog.at_level(logging.WARNING):
        requeue()
    assert "SLURM job 1234 cannot be requeued" in caplog.text
    assert "submit it again" in caplog.text


def test_sigusr1_requeues_and_sigterm_does_not(scontrol, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    for number, requeued in ((signal.SIGTERM, False), (signal.SIGUSR1, True)):
        signal_behind(monkeypatch, 1, number)
        with pytest.raises(SystemExit):
            run(STEPS, tmp_path / str(number))
        assert (scontrol / "given").exists() == requeued


def test_all_processes_wait_until_the_job_is_requeued(tmp_path, monkeypatch):
    done = []
    signal_behind(monkeypatch, 1, signal.SIGUSR1)
    monkeypatch.setattr(training, "requeue", lambda: done.append("requeued"))
    monkeypatch.setattr(SingleDeviceStrategy, "barrier", lambda *_: done.append("waited"))
    with pytest.raises(SystemExit):
        run(STEPS, tmp_path)
    assert done[-2:] == ["requeued", "waited"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_requeued_job_resumes_from_its_own_checkpoint(tmp_path, monkeypatch):
    """It does not start again from the file with which its first process started."""
    run([*TINY, "trainer.max_epochs=1"], tmp_path / "first")
    file = tmp_path / "elsewhere.ckpt"
    (tmp_path / "first" / LAST).rename(file)
    again = [*TINY, "trainer.max_epochs=3", f"ckpt={file}"]
    monkeypatch.setattr(ClassificationTask, "on_validation_end", stop_in_epoch(1), raising=False)
    with pytest.raises(SystemExit):
        run(again, tmp_path / "job")
    monkeypatch.undo()
    assert position(tmp_path / "job")["epoch"] == 2
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    run(again, tmp_path / "job")
    with (tmp_path / "job" / "csv" / "version_1" / "metrics.csv").open() as stream:
        assert next(csv.DictReader(stream))["step"] == "4"


def stop_in_epoch(number):
    def hook(task):
        if task.current_epoch == number:
            os.kill(os.getpid(), signal.SIGTERM)

    return hook


def test_non_finite_weights_are_not_saved_within_an_epoch(tmp_path, monkeypatch):
    def ruin(task, outputs, images, batch_idx):
        if batch_idx == 1:
            next(task.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr(ClassificationTask, "on_train_batch_end", ruin)
    with pytest.raises(TrainingError, match="not finite"):
        run([*STEPS, "checkpoint.every_n_steps=3"], tmp_path)
    assert not (tmp_path / LAST).exists()


def test_the_best_epochs_are_kept_and_a_resumed_run_may_keep_fewer(tmp_path):
    run([*TINY, "trainer.max_epochs=4", "checkpoint.keep_best=3"], tmp_path)
    names = {file.name for file in (tmp_path / "checkpoints").iterdir()}
    kept = {name for name in names if name.startswith("best_epoch")}
    assert names - kept == {"best.ckpt", "last.ckpt"}
    assert len(kept) == 3
    best = read_checkpoint(tmp_path / "checkpoints" / "best.ckpt")
    assert f"best_epoch{best['epoch']:03d}.ckpt" in kept
    run([*TINY, "trainer.max_epochs=5", "checkpoint.keep_best=2", f"ckpt={tmp_path}"], tmp_path)
    assert len(list(tmp_path.glob("checkpoints/best_epoch*"))) == 2


def score(file):
    """Return the validation metric that a checkpoint contains."""
    states = read_checkpoint(file)["callbacks"]
    (best,) = (each for key, each in states.items() if key.startswith("ModelCheckpoint"))
    return float(best["best_model_score"])


KEEPING = ("checkpoint.keep_best=2", "trainer.max_epochs=4")


@pytest.fixture
def falling(monkeypatch):
    """Make every epoch of a training worse than those before it."""

    metrics = ClassificationTask.validation_metrics

    def worse(task):
        return {**metrics(task), task.monitor: -float(task.current_epoch)}

    monkeypatch.setattr(ClassificationTask, "validation_metrics", worse)


def test_paths_in_a_checkpoint_are_relative_to_the_run(trained):
    folder, _ = trained
    for name in ("last", "best"):
        callbacks = read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")["callbacks"]
        assert str(folder) not in str(callbacks)
        (best,) = (each for key, each in callbacks.items() if key.startswith("ModelCheckpoint"))
        assert best["dirpath"] == "checkpoints"
        assert best["best_model_path"] == "checkpoints/best.ckpt"
        assert list(best["best_k_models"]) == ["checkpoints/best.ckpt"]


def state_of(checkpoint, folder, kind=BestCheckpoint):
    """Return the best epochs that the callback of a folder reads from a checkpoint."""
    best = kind(
        folder, monitor="val/top1", mode="max", **({"count": 2} if kind is BestEpochs else {})
    )
    best.load_state_dict(checkpoint)
    return best


@pytest.mark.parametrize("old", ["/elsewhere/run/checkpoints/", "checkpoints/"])
@pytest.mark.filterwarnings("error")
def test_a_moved_run_keeps_its_best_epochs(old, tmp_path):
    """Checkpoints of earlier versions have absolute paths."""
    checkpoint = {
        "monitor": "val/top1",
        "dirpath": old.rstrip("/"),
        "last_model_path": "",
        "best_model_path": f"{old}best_epoch001.ckpt",
        "best_model_score": torch.tensor(0.9),
        "kth_best_model_path": f"{old}best_epoch000.ckpt",
        "kth_value": torch.tensor(0.8),
        "current_score": torch.tensor(0.8),
        "best_k_models": {
            f"{old}best_epoch001.ckpt": torch.tensor(0.9),
            f"{old}best_epoch000.ckpt": torch.tensor(0.8),
        },
    }
    best = state_of(checkpoint, tmp_path / "checkpoints", BestEpochs)
    first, second = (str(tmp_path / f"checkpoints/best_epoch00{number}.ckpt") for number in (1, 0))
    assert best.best_k_models == {first: torch.tensor(0.9), second: torch.tensor(0.8)}
    assert (best.best_model_path, best.best_model_score) == (first, torch.tensor(0.9))
    assert (best.kth_best_model_path, best.kth_value) == (second, torch.tensor(0.8))


@pytest.mark.slow
def test_a_resumed_copy_keeps_the_best_epochs_and_does_not_change_the_original(tmp_path, falling):
    """Its epochs are worse than those before it; two of three are kept."""
    run([*TINY, *KEEPING, "trainer.max_epochs=2"], tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    original = {path: path.read_bytes() for path in files_of(tmp_path / "run")}
    run([*TINY, *KEEPING, f"ckpt={tmp_path / 'copy'}"], tmp_path / "copy")
    assert {path: path.read_bytes() for path in files_of(tmp_path / "run")} == original
    folder = tmp_path / "copy" / "checkpoints"
    assert sorted(file.name for file in folder.iterdir()) == [
        "best.ckpt",
        "best_epoch000.ckpt",
        "best_epoch001.ckpt",
        "last.ckpt",
    ]
    assert read_checkpoint(folder / "best.ckpt")["epoch"] == 0
    assert score(folder / "last.ckpt") == 0


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_missing_best_checkpoint_gives_a_warning_on_resume(tmp_path, falling, caplog):
    run([*TINY, *KEEPING, "trainer.max_epochs=2"], tmp_path)
    folder = tmp_path / "checkpoints"
    for name in ("best.ckpt", "best_epoch000.ckpt"):
        (folder / name).unlink()
    caplog.clear()
    caplog.set_level(logging.INFO)
    resumed = run([*TINY, *KEEPING, f"ckpt={tmp_path}"], tmp_path)
    told = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    for name in ("best.ckpt", "best_epoch000.ckpt"):
        assert any(str(folder / name) in text for text in told)
    messages = [each.message for each in caplog.records]
    first_epoch = next(i for i, text in enumerate(messages) if text.startswith("epoch 3/4"))
    assert all(messages.index(text) < first_epoch for text in told if str(folder) in text)
    assert resumed["checkpoint_epoch"] == 3
    kept = sorted(path.name for path in folder.glob("best_epoch*"))
    assert kept == ["best_epoch001.ckpt", "best_epoch002.ckpt"]


@pytest.mark.slow
def test_a_training_from_a_file_of_another_run_gives_no_warning(tmp_path, falling, caplog):
    run([*TINY, "trainer.max_epochs=1"], tmp_path / "run")
    caplog.clear()
    file = tmp_path / "run" / "checkpoints" / "best.ckpt"
    results = run([*TINY, "trainer.max_epochs=2", f"ckpt={file}"], tmp_path / "new")
    assert "missing" not in caplog.text
    assert results["checkpoint_epoch"] == 2

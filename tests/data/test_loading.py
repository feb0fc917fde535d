"""Processes of a loader: how they end, and what is said if they are killed, hang or lack memory."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from hanging import command, only_error
from mounts import needs_root
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.data.classification.dataset import ImageFolderDataset
from parcnet_train.data.loading import WorkerBatches
from parcnet_train.errors import TrainingError
from running import TINY, run

SCRIPT = """
import multiprocessing
from parcnet_train.data.demo.classification import DigitsData
from parcnet_train.data.classification.transforms import Augmentation

data = DigitsData(root={root!r}, image_size=32, batch_size=4, augmentation=Augmentation())
data.num_workers = 1
data.prepare()
data.setup("fit")
batches = iter(data.train_dataloader())
next(batches)
print(len(multiprocessing.active_children()))
"""


@pytest.mark.slow
def test_program_ends_while_loaders_are_running(tmp_path):
    script = SCRIPT.format(root=str(tmp_path / "digits"))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=600, check=True
    )
    assert done.stdout == "1\n"
    assert "Error" not in done.stderr


@pytest.fixture
def folder_run(image_folder):
    """Overrides of a training on class folders, with two loader processes per set."""
    return [*TINY, "data=imagefolder", f"data.root={image_folder}", "data.num_workers=2"]


def in_workers(monkeypatch, act, folder="train"):
    """Let the loader processes of a set do something when they read an image."""
    look = ImageFolderDataset.look

    def acting(dataset, sample):
        if multiprocessing.parent_process() is not None and dataset.folder.name == folder:
            act()
        return look(dataset, sample)

    monkeypatch.setattr(ImageFolderDataset, "look", acting)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "by SIGKILL"),
        (lambda: os._exit(3), "with exit code 3"),
    ],
)
def test_ended_process_is_named_with_the_file(end, words, folder_run, tmp_path, monkeypatch):
    in_workers(monkeypatch, end)
    message = (
        rf"^data\.num_workers=\d: a loader process was ended {words} while it was reading "
        r"(cat|ant|bee).\d\.(png|jpg)\. Fix: fewer data\.num_workers.*$"
    )
    with pytest.raises(TrainingError, match=message):
        run(folder_run, tmp_path / "run")


def test_process_that_ends_before_its_loader_is_complete_is_named(
    folder_run, tmp_path, monkeypatch
):
    # PyTorch's handler of SIGCHLD may raise before the loader's iterator has been returned.
    in_workers(monkeypatch, lambda: os._exit(3))
    complete = WorkerBatches._reset

    def late(iterator, *arguments, **options):
        complete(iterator, *arguments, **options)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.01)  # interrupted by the handler

    monkeypatch.setattr(WorkerBatches, "_reset", late)
    message = r"ended with exit code 3 while it was reading (cat|ant|bee).\d\.(png|jpg)\. Fix: "
    with pytest.raises(TrainingError, match=message):
        run(folder_run, tmp_path / "run")


def test_end_of_a_process_is_noticed_without_sigchld(folder_run, tmp_path, monkeypatch):
    # PyTorch only handles the signal once all processes have been started.
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    monkeypatch.setattr(
        torch.utils.data._utils.signal_handling, "_set_SIGCHLD_handler", lambda: None
    )
    in_workers(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL))
    message = r"ended by SIGKILL while it was reading (cat|ant|bee).\d\.(png|jpg)\. Fix: "
    with pytest.raises(TrainingError, match=message):
        run(folder_run, tmp_path / "run")


def test_process_killed_in_validation_is_named(folder_run, tmp_path, monkeypatch):
    in_workers(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL), "val")
    with pytest.raises(TrainingError, match="a loader process was ended by SIGKILL"):
        run([*folder_run, "checkpoint.every_n_steps=1"], tmp_path / "run")
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["position"]["step"] == 1


def test_process_that_hangs_is_named_with_the_file(folder_run, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    in_workers(monkeypatch, lambda: time.sleep(600))
    message = (
        r"^data\.timeout_minutes: the loader processes gave no batch for 0\.02 minutes, while they "
        r"were reading (cat|ant|bee).\d\.(png|jpg).*increase data\.timeout_minutes"
    )
    before = set(multiprocessing.active_children())
    with pytest.raises(TrainingError, match=message):
        run([*folder_run, "data.timeout_minutes=0.02"], tmp_path / "run")
    deadline = time.monotonic() + 60
    while not set(multiprocessing.active_children()) <= before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_command_with_a_killed_process_keeps_its_checkpoint(tmp_path):
    fault = "+callbacks.fault={_target_:hanging.At,step:3,what:kill_worker}"
    line = only_error(command(tmp_path, "data.num_workers=1", "recipe.batch_size=2", fault))
    assert re.search(r"ended by SIGKILL( while it was reading \S+)?\. Fix: ", line)
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["position"]["step"] == 3


@pytest.mark.slow
@needs_root
@pytest.mark.parametrize("size", ["8k", "100k"])  # too small for semaphores; for batches
def test_small_shared_memory_is_one_line(size, tmp_path):
    mount = f"mount -t tmpfs -o size={size} tmpfs /dev/shm"
    images = ("data.num_workers=2", "recipe.image_size=256", "recipe.batch_size=8")
    line = only_error(command(tmp_path, *images, mount=mount))
    assert line.startswith("error: data.num_workers=2: /dev/shm is too small for the batches")
    assert "docker run --shm-size=8g" in line

import os
import signal
from pathlib import Path

import pytest
import torch

from parcnet_train.benchmarks.other_process import OtherProcess
from parcnet_train.errors import TrainingError


def writing(path):
    def run():
        with Path(path).open("a") as file:
            file.write(f"{os.getpid()} {torch.get_num_threads()}\n")

    return run


def killing_itself():
    return lambda: os.kill(os.getpid(), signal.SIGKILL)


def test_variant_runs_in_another_process_once_per_call(tmp_path):
    path = tmp_path / "runs.txt"
    with OtherProcess(writing, str(path)) as variant:
        assert not path.exists()
        variant()
        variant()
        first, second = path.read_text().splitlines()
        assert first == second == f"{variant.process.pid} {torch.get_num_threads()}"
        assert variant.process.pid != os.getpid()
    assert not variant.process.is_alive()


ENDED = r"exit code -9.*benchmark\.batch_size or benchmark\.image_size"


def test_process_that_ends_during_a_call_is_a_training_error():
    with OtherProcess(killing_itself) as variant, pytest.raises(TrainingError, match=ENDED):
        variant()


def test_ctrl_c_does_not_end_the_other_process(tmp_path):
    with OtherProcess(writing, str(tmp_path / "runs.txt")) as variant:
        os.kill(variant.process.pid, signal.SIGINT)
        variant()
    assert not variant.process.is_alive()


def test_process_that_ends_between_calls_is_a_training_error(tmp_path):
    with OtherProcess(writing, str(tmp_path / "runs.txt")) as variant:
        variant()
        variant.process.kill()
        variant.process.join()
        with pytest.raises(TrainingError, match=ENDED):
            variant()

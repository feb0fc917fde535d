"""Processes of a loader."""

import subprocess
import sys

import pytest

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

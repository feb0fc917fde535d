"""Reading of checkpoint files."""

import pytest
import torch

import parcnet_train
from parcnet_train.errors import CheckpointError


def test_files_that_are_not_checkpoints_are_errors(tmp_path):
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"state_dict": {}}, tmp_path / "bare.ckpt")
    with pytest.raises(CheckpointError, match=r"text\.ckpt: .*not a checkpoint of PyTorch"):
        parcnet_train.load(tmp_path / "text.ckpt")
    lacks = r"bare\.ckpt: .*not a checkpoint of parcnet_train: it has no config, choices"
    with pytest.raises(CheckpointError, match=lacks):
        parcnet_train.load(tmp_path / "bare.ckpt")
    with pytest.raises(CheckpointError, match=r"none\.ckpt: .*cannot be read"):
        parcnet_train.load(tmp_path / "none.ckpt")
    with pytest.raises(CheckpointError, match=r"best\.ckpt: .*cannot be read: No such"):
        parcnet_train.load(tmp_path)  # not a run directory

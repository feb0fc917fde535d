"""Reading of checkpoint files."""

import pytest
import torch

import parcnet_train
from parcnet_train.checkpoints.reading import read_checkpoint
from parcnet_train.errors import CheckpointError
from releasing import write_checkpoint


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


@pytest.mark.slow
def test_a_file_cut_at_any_byte_of_its_last_kilobyte_is_refused(tmp_path):
    whole = write_checkpoint(tmp_path / "best.ckpt").read_bytes()
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(whole)
    assert read_checkpoint(cut)["class_names"]
    with cut.open("r+b") as file:
        for length in range(len(whole) - 1, len(whole) - 1025, -1):
            file.truncate(length)
            with pytest.raises(CheckpointError) as caught:
                read_checkpoint(cut)
            message = str(caught.value)
            assert message.startswith(f"ckpt={cut}: "), length
            assert "\n" not in message, length
            assert "Fix: " in message, length


def test_a_file_cut_in_its_beginning_is_refused(tmp_path):
    whole = write_checkpoint(tmp_path / "best.ckpt").read_bytes()
    cut = tmp_path / "cut.ckpt"
    for length in (0, 1, 2, 4, 64, 1000, len(whole) // 2):
        cut.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"^ckpt="):
            read_checkpoint(cut)

import errno

import pytest

from parcnet_train.errors import TrainingError
from parcnet_train.files import scratch_folder


def test_a_scratch_folder_is_gone_behind():
    with scratch_folder() as folder:
        (folder / "a").write_text("a")
    assert not folder.exists()


def test_a_full_one_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    message = f"{tmp_path}, for files in between, is full: No space left on device; make room, or"
    with pytest.raises(TrainingError) as refusal, scratch_folder():
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(refusal.value).startswith(message)
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="Is a directory"), scratch_folder() as folder:
        folder.read_bytes()  # which is no question of room

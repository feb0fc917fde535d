"""What a training tells of itself to whoever watches it from outside."""

import json

from parcnet_train.callbacks import progress
from running import TINY, run


def test_progress_is_written_within_epochs_and_after_each(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "WRITING_SECONDS", 0)
    told = []

    def note(path, content):
        told.append(json.loads(content))
        path.write_bytes(content)

    monkeypatch.setattr(progress, "write_whole", note)
    results = run([*TINY, "trainer.max_epochs=2"], tmp_path)
    assert told[-1] == json.loads((tmp_path / "progress.json").read_text())
    assert [each["epoch"] for each in told] == [0, 0.5, 1, 1, 1.5, 2, 2]
    assert {(each["epochs"], each["metric"]) for each in told} == {(2, "val/top1")}
    assert [each["value"] is None for each in told] == [True] * 3 + [False] * 4
    assert told[-1]["value"] == results["val/top1"]
    assert told[0]["seconds_left"] is None
    assert all(each["seconds_left"] > 0 for each in told[1:5])
    assert told[-1]["seconds_left"] == 0


def test_it_is_written_seldom(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(progress, "write_whole", lambda path, content: told.append(content))
    monkeypatch.setattr(progress, "WRITING_SECONDS", 60)
    run(TINY, tmp_path)
    assert len(told) == 2

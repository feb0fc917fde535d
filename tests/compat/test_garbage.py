"""Garbage collection while a command starts."""

import gc
import sys

import pytest

from parcnet_train import __main__
from parcnet_train.compat.garbage import Collection, collection


@pytest.fixture(autouse=True)
def _as_before():
    yield
    gc.unfreeze()
    gc.enable()


def test_collection_resumes_without_what_exists():
    paused = Collection()
    paused.pause()
    assert not gc.isenabled()
    paused.resume()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_without_a_pause_nothing_is_frozen():
    before = gc.get_freeze_count()
    Collection().resume()
    assert gc.get_freeze_count() == before


@pytest.mark.parametrize("action", ["schema", "watch"])  # with and without a run directory
def test_collection_runs_during_an_action(action, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "parcnet_train.actions.command.function_of",
        lambda _: lambda config: seen.append((gc.isenabled(), collection.is_paused)) or {},
    )
    monkeypatch.setattr(
        sys, "argv", ["parcnet_train", f"action={action}", f"paths.runs={tmp_path}"]
    )
    __main__.main()
    assert seen == [(True, False)]


def test_collection_resumes_after_an_error(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["parcnet_train", "action=nothing"])
    with pytest.raises(SystemExit):
        __main__.main()
    assert gc.isenabled()

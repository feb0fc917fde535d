"""Code revision of a run."""

import subprocess

import pytest

from parcnet_train.runs import git as revision
from parcnet_train.runs.git import LARGEST_DIFF, find_revision


@pytest.fixture
def checkout(tmp_path):
    """Create a repository with one commit."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    (tmp_path / "code.py").write_text("one\n")
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    return tmp_path


def test_revision_contains_uncommitted_changes(checkout, monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook of another repository
    clean = find_revision(checkout)
    assert len(clean.name) == 40
    assert clean.described()["dirty"] is False
    assert clean.described()["diff"] is None
    (checkout / "code.py").write_text("two\n")
    (checkout / "new.py").write_text("three\n")
    changed = find_revision(checkout)
    assert changed.name == clean.name
    assert b"-one\n+two\n" in changed.diff
    assert b"three" not in changed.diff
    assert changed.untracked == ("new.py",)
    assert changed.described()["dirty"] is True


def test_long_diff_is_cut_with_a_note(checkout):
    (checkout / "code.py").write_text("long\n" * (LARGEST_DIFF // 5 + 100))
    diff = find_revision(checkout).diff
    assert len(diff) < LARGEST_DIFF + 100
    assert diff.endswith(b" more bytes are left out]\n")


def test_many_untracked_files_are_counted(checkout, monkeypatch):
    monkeypatch.setattr(revision, "MOST_UNTRACKED", 2)
    for number in range(5):
        (checkout / f"{number}").touch()
    assert find_revision(checkout).untracked == ("0", "1", "and 3 more")


def test_revision_is_none_without_checkout_or_git(tmp_path, monkeypatch, caplog):
    assert find_revision(tmp_path) is None
    (tmp_path / ".git").touch()  # git refuses this file
    assert find_revision(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert find_revision(tmp_path) is None
    assert caplog.text.count("git cannot determine the revision") == 2

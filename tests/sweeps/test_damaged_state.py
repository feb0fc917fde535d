"""Files of a sweep's jobs that are damaged: they are ignored, or refused in one line."""

import contextlib
import itertools
import json

import pytest
from rich.console import Console

from parcnet_train.actions.watch.states import Watcher
from parcnet_train.callbacks.pruning import TRIAL, is_trial
from parcnet_train.errors import UserError
from parcnet_train.pages.parts import start_again
from parcnet_train.report.collected import collect
from parcnet_train.runs.claims import at_work
from parcnet_train.runs.directories import by_start, is_again, read_values
from parcnet_train.sweeps.jobs import look, metric_of, take
from parcnet_train.sweeps.table import FINISHED, RUNNING, Display, Row

IDENTITY = "1f2e3d4c5b6a"
FILES = {
    "results.json": {
        "status": "done",
        "action": "fit",
        "config_hash": IDENTITY,
        "monitor": "val/top1",
        "val/top1": 0.5,
        "epochs": 2,
        "seed": 0,
        "parameters": 1000,
        **dict.fromkeys(("task", "backbone", "data", "recipe"), "demo"),
    },
    "progress.json": {
        "epoch": 1,
        "epochs": 2,
        "metric": "val/top1",
        "value": 0.5,
        "best": 0.5,
        "images_per_second": 10.0,
        "seconds_left": 12.0,
    },
    "run.json": {
        "started": "2026-05-01T12:00:00.000000+00:00",
        "id": "0a1b2c3d",
        "overrides": ["seed=0"],
        "run_name": None,
        "directory": "/somewhere",
    },
    "provenance.json": {
        "config": {"seed": 0},
        "sessions": [{"started": "2026-05-01T12:00:00+00:00", "ended": None}],
    },
    "outcome.json": {"outcome": "failed", "reason": "a disk"},
    "report.json": {"sections": {"batches": {"title": "Batches", "blocks": []}}},
    TRIAL: {
        "started": 1.0,
        "attributes": {},
        "monitor": "val/top1",
        "state": "RUNNING",
        "values": [0.5, None],
    },
}
LOCKS = ("job.lock", "run.lock")
HOLDER = {"pid": 2**22 + 1, "host": "elsewhere", "boot": None, "since": "May", "job": None}
VALUES = [
    None,
    True,
    -1,
    1e300,
    10**400,
    "",
    "\0\x1b[31m\n\ud800",
    [],
    [[]],
    {},
    {"a": [1]},
    [1, "a"],
]
DEEP = "[" * 100_000
CONTENTS = [b"", b"{", b"null", b'"text"', b"[1]", DEEP.encode(), b"\xff\xfe{}", b'{"a": "\xe9"}']


@pytest.fixture
def job(tmp_path):
    folder = tmp_path / "sweep" / "seed-0"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / ".hydra").mkdir()
    write_all(folder)
    return folder


def write_all(folder):
    """Write the valid files of a job."""
    for name, values in FILES.items():
        (folder / name).write_text(json.dumps(values))
    for name in LOCKS:
        (folder / name).write_text(f"{IDENTITY}\n")


def work_in(folder):
    """Start a command in the directory of a job."""
    with at_work(folder, ["seed=0"]):
        pass


def read_everything(folder):
    """Do what a sweep, its jobs, `action=watch` and `action=compare` do with the files of a job."""
    look("fit", IDENTITY, folder)
    assert metric_of(folder) in (0.5, -1, 1e300, None)
    for state in (RUNNING, FINISHED):
        for is_terminal in (True, False):
            console = Console(force_terminal=is_terminal, width=80, quiet=True)
            with Display([Row("seed=0", folder, state)], console):
                pass
    assert by_start([folder]) == [folder]
    is_again(folder, ["seed=0"])
    Watcher([folder.parent]).read()
    is_trial(read_values(folder / TRIAL))
    for refusable in (
        lambda: collect([folder.parent]),
        lambda: take(IDENTITY, folder).close(),
        lambda: work_in(folder),
        lambda: start_again(folder, ("batches",)),
    ):
        with contextlib.suppress(UserError):
            refusable()


def test_valid_files_are_read(job):
    read_everything(job)
    assert look("fit", IDENTITY, job) == "finished"
    assert is_trial(FILES[TRIAL])


@pytest.mark.parametrize("name", [*FILES, *LOCKS])
def test_files_that_are_no_json_are_ignored_or_refused(job, name):
    for content in CONTENTS:
        write_all(job)
        (job / name).write_bytes(content)
        read_everything(job)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_values_of_wrong_types_are_ignored_or_refused(job, name):
    for key, value in itertools.product(FILES[name], VALUES):
        write_all(job)
        (job / name).write_text(json.dumps({**FILES[name], key: value}))
        read_everything(job)
        (job / name).write_text(json.dumps({**FILES[name], key: [value]}))
        read_everything(job)


@pytest.mark.parametrize("name", LOCKS)
def test_holders_of_wrong_types_are_ignored_or_refused(job, name):
    for key, value in itertools.product((*HOLDER, "inode"), VALUES):
        write_all(job)
        inode = (job / name).stat().st_ino
        holder = {**HOLDER, "inode": inode, key: value}
        (job / name).write_text(f"{IDENTITY}\n{json.dumps(holder)}\n")
        read_everything(job)
    for content in CONTENTS:
        (job / name).write_bytes(IDENTITY.encode() + b"\n" + content)
        read_everything(job)

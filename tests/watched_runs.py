"""Planted run directories, in the states that a watch tells apart."""

import csv
import json
import os
import socket
from datetime import UTC, datetime

from parcnet_train.runs.locks import take_lock

GONE = 2**22 + 1  # Linux never uses this process id
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CURVE = (0.25, 0.75, 0.5)


def plant(folder, *, minute=0, overrides=(), curve=CURVE, **files):
    """Write a run directory; each of `files` is the content of FILE.json."""
    folder.mkdir(parents=True)
    started = NOON.replace(minute=minute).isoformat()
    record = {"started": started, "overrides": list(overrides)}
    for name, content in {"run": record, **files}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)
    if curve:
        logs = folder / "csv" / "version_0"
        logs.mkdir(parents=True)
        with (logs / "metrics.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("epoch", "step", "train/lr", "val/top1"))
            for epoch, value in enumerate(curve):
                writer.writerow((epoch, 7 * epoch, 0.001, ""))
                writer.writerow((epoch, 7 * epoch + 6, "", value))
    return folder


def progress_of(**changes):
    return {
        "epoch": 2.5,
        "epochs": 8,
        "metric": "val/top1",
        "value": 0.5,
        "best": 0.75,
        "images_per_second": 123.4,
        "seconds_left": 3723.4,
        **changes,
    }


def results_of(**changes):
    return {
        "status": "done",
        "action": "fit",
        "monitor": "val/top1",
        "val/top1": 0.75,
        "epochs": 8,
        "train/images_per_second": 321.0,
        **changes,
    }


def lock(folder, **changes):
    """Leave the lock file of a process, with changes to what it says of itself."""
    taken = take_lock(folder / "run.lock")
    note, holder = taken.path.read_text().splitlines()
    taken.path.write_text(f"{note}\n{json.dumps({**json.loads(holder), **changes})}\n")
    taken.file.close()


def plant_all(root):
    """Plant a run in every state, the newest one last, and return them by state."""
    group = root / "classification" / "parcnet_s-demo"
    running = plant(group / "running", minute=1, progress=progress_of())
    lock(running, pid=os.getpid())
    finished = plant(
        group / "finished",
        minute=2,
        progress=progress_of(epoch=8, seconds_left=0),
        results=results_of(),
    )
    stopped = plant(
        group / "stopped", minute=3, progress=progress_of(), outcome={"outcome": "stopped"}
    )
    failed = plant(
        group / "failed",
        minute=4,
        curve=(),
        outcome={"outcome": "failed", "reason": "the loss is not finite"},
    )
    killed = plant(group / "killed", minute=5, progress=progress_of())
    lock(killed, pid=GONE, host=socket.gethostname())
    return {
        "running": running,
        "finished": finished,
        "stopped": stopped,
        "failed": failed,
        "killed": killed,
    }

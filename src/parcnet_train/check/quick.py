"""Checks of the actions that run without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from parcnet_train.check.preparation import wrong_prepare
from parcnet_train.errors import Fault

Config = dict[str, Any]


def wrong_action(config: Config) -> Iterator[Fault]:
    """Report the faults of an action that runs without torch."""
    action, way_out = config["action"], "leave it out"
    own = "prepare.input=PATH" if action == "prepare" else way_out
    for key, fix in (("ckpt", way_out), ("input", own)):
        if config[key] is not None:
            yield Fault(key, f"{key}={config[key]}: action={action} does not read it. Fix: {fix}")
    yield from QUICK[action](config)


def wrong_report(config: Config) -> Iterator[Fault]:
    """Report a missing folder of runs."""
    if config["action"] not in ("report", "compare", "watch"):
        return
    runs = config["report"]["runs"]
    for folder in runs if isinstance(runs, list) else [runs or "."]:
        if not Path(folder).expanduser().is_dir():
            yield Fault(
                "report.runs",
                f"report.runs={folder}: this folder does not exist; expected a folder of runs",
            )


QUICK: dict[str, Callable[[Config], Iterator[Fault]]] = {
    "prepare": wrong_prepare,
    "watch": wrong_report,
}

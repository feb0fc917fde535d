"""What `check` finds out about actions: what they are to do and to read, and where they write."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parcnet_train.config.keys import show, value_of
from parcnet_train.deploy.formats.formats import FORMATS, verification_of
from parcnet_train.errors import DataError
from parcnet_train.predict.inputs import EXPECTED, STDIN, find_images

Config = dict[str, Any]

# By target of a benchmark: the task that it measures; the others measure any.
MEASURED = {
    "detection": "detection",
    "latency": "classification",
    "loader": "classification",
    "overhead": "classification",
    "train_step": "classification",
}


def wrong_paths(config: Config) -> Iterator[str]:
    """Folders that cannot be written to."""
    for key in ("paths.runs", "paths.cache"):
        path = str(value_of(config, key))
        wanted = Path(path).expanduser().absolute()
        folder = next(each for each in (wanted, *wanted.parents) if os.access(each, os.F_OK))
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            yield f"{show(key, path)}: {folder} is not a folder that can be written to"


def wrong_input(config: Config) -> Iterator[str]:
    """Images that are needed or named, and are not there or for nothing."""
    given, action = config["input"], config["action"]
    if action != "predict":
        if given is not None:
            yield f"input={given}: action={action} reads none; leave it out, or add action=predict"
    elif given is None:
        yield f"input has no value; action=predict needs one: {EXPECTED}"
    elif given != STDIN:  # which can be read once
        try:
            find_images(given, Path(config["paths"]["runs"]))
        except DataError as error:
            yield str(error)


def wrong_report(config: Config) -> Iterator[str]:
    """A report of a folder that is not there."""
    runs = config["report"]["runs"]
    for folder in runs if isinstance(runs, list) else [runs or "."]:
        if config["action"] == "report" and not Path(folder).expanduser().is_dir():
            yield f"report.runs={folder}: there is no such folder; name one that holds runs"


def wrong_target(config: Config) -> Iterator[str]:
    """A benchmark of another task."""
    target, task = config["benchmark"]["target"], config["choices"]["task"]
    measured = MEASURED.get(target, task)
    if config["action"] == "benchmark" and task != measured:
        yield f"benchmark.target={target}: allowed with task={measured}, not with task={task}"


def wrong_export(config: Config) -> Iterator[str]:
    """What a format or a task cannot be exported to."""
    settings, task = config["export"], config["choices"]["task"]
    if config["action"] != "export":
        return
    if settings["argmax"] and task != "segmentation":
        yield f"export.argmax=true: allowed with task=segmentation, not with task={task}"
    if settings["decode"] and task != "detection":
        yield f"export.decode=true: allowed with task=detection, not with task={task}"
    form, decoding = settings["format"], [k for k, v in FORMATS.items() if v.decodes]
    if settings["decode"] and form not in decoding:
        yield f"export.decode=true: allowed with export.format={'|'.join(decoding)}, not {form}"
    system = platform.system()
    verification = verification_of(settings)
    if verification != "none" and FORMATS[form].macos_only and system != "Darwin":
        yield (
            f"export.verify={verification}: only macOS runs files of export.format={form}, "
            f"and this is {system}; use export.verify=none"
        )
    has_logits = not settings["argmax"] and not settings["decode"]
    lacking = "which a file with export.argmax=true or export.decode=true does not give"
    if settings["verify"] == "metric" and not has_logits:
        yield (
            f"export.verify=metric: the metric is made of logits, {lacking}; use "
            "export.verify=outputs"
        )
    if settings["sensitivity"] and not has_logits:
        yield (
            f"export.sensitivity=true: the noise is that of logits, {lacking}; list the layers of "
            "a file that does, they have the same names"
        )
    yield from wrong_precision(settings)


def wrong_precision(settings: dict[str, Any]) -> Iterator[str]:
    """Formats without int8, and what is said of its layers where there are none."""
    form, is_int8 = settings["format"], settings["precision"] == "int8"
    quantizing = [name for name, each in FORMATS.items() if each.quantizable is not None]
    if is_int8 and form not in quantizing:
        allowed = "|".join(quantizing)
        yield f"export.precision=int8: allowed with export.format={allowed}, not {form}"
    knowing = [name for name, each in FORMATS.items() if each.knows_layers]
    for key in ("sensitivity", "float_layers"):
        if settings[key] and not (is_int8 and form in knowing):
            yield (
                f"{show(f'export.{key}', settings[key])}: allowed with export.precision=int8 and "
                f"export.format={'|'.join(knowing)}"
            )

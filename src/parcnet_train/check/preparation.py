"""Checks of the settings of action=prepare, without torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from parcnet_train.config.action_sections import SOURCES
from parcnet_train.errors import Fault

Config = dict[str, Any]

OF_FOLDERS = ("imagenet", "coco", "voc_xml", "labelme", "color_masks")  # the others also read files
# Keys that only some sources read.
ONLY_FOR = {"palette": ("color_masks",), "coco": ("voc",)}


def wrong_prepare(config: Config) -> Iterator[Fault]:
    """Report settings of action=prepare that are missing or do not fit together."""
    settings = config["prepare"]
    is_packing = settings["pack"]
    expected = {
        "source": f"expected one of {', '.join(get_args(SOURCES))}",
        "input": "expected the folder or file to read",
        "output": "expected the folder to create",
    }
    for key, words in expected.items():
        if settings[key] is None and not (is_packing and key == "source"):
            yield Fault(f"prepare.{key}", f"prepare.{key} has no value; {words}")
    source, given = settings["source"], settings["input"]
    if is_packing and source is not None:
        yield Fault(
            "prepare.source",
            f"prepare.source={source}: prepare.pack=true packs a data set in one of our layouts; "
            "expected null. Fix: first prepare it without prepare.pack, then pack the output",
        )
    if settings["short_side"] is not None and not is_packing:
        yield Fault(
            "prepare.short_side",
            f"prepare.short_side={settings['short_side']}: only prepare.pack=true reads it. Fix: "
            "prepare.short_side=null",
        )
    inputs = given if isinstance(given, list) else [given] if given is not None else []
    if len(inputs) > 1 and source != "voc":
        yield Fault(
            "prepare.input",
            f"prepare.input={given}: prepare.source={source} reads one folder or file",
        )
    reader = "prepare.pack=true" if is_packing else f"prepare.source={source}"
    for path in inputs:
        if not Path(path).expanduser().exists():
            yield Fault(
                "prepare.input",
                f"prepare.input={path}: it does not exist; expected a folder or file",
            )
        elif (is_packing or source in OF_FOLDERS) and not Path(path).expanduser().is_dir():
            yield Fault(
                "prepare.input",
                f"prepare.input={path}: it is a file; {reader} reads a folder",
            )
    for key in ("palette", "classes", "coco"):
        given, sources = settings[key], ONLY_FOR.get(key, (source,))
        if given is not None and source not in sources:
            yield Fault(
                f"prepare.{key}",
                f"prepare.{key}={given}: prepare.source={source} does not read it; expected "
                f"prepare.source={'|'.join(sources)}",
            )
        elif isinstance(given, str) and not Path(given).expanduser().exists():
            yield Fault(f"prepare.{key}", f"prepare.{key}={given}: it does not exist")
    yield from wrong_split(settings["split"])


def wrong_split(split: Config) -> Iterator[Fault]:
    """Report shares that leave nothing for the training, and an invalid pattern."""
    if split["val"] + split["test"] >= 1:
        yield Fault(
            "prepare.split.val",
            f"prepare.split.val={split['val']} prepare.split.test={split['test']}: nothing is left "
            "for the training; expected a sum below 1",
        )
    if split["group_by"] is not None:
        try:
            re.compile(split["group_by"])
        except re.error as error:
            yield Fault(
                "prepare.split.group_by",
                f"prepare.split.group_by={split['group_by']}: it is not a regular expression "
                f"({error}); expected one such as '^(patient\\d+)_'",
            )

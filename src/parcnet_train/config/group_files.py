"""The files of `conf/` by group, and their values before anything is resolved."""

from __future__ import annotations

import functools
import re
from itertools import takewhile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def files_of(conf: Path, group: str) -> list[Path]:
    """Return the files of a group: those that the root and the tasks choose come first."""
    chosen = [
        (name.lstrip("/"), choice)
        for file in (conf / "config.yaml", *sorted((conf / "task").glob("*.yaml")))
        for entry in contents_of(file)["defaults"]
        if isinstance(entry, dict)
        for name, choice in entry.items()
    ]
    files = sorted((conf / group).glob("*.yaml"), key=numbered)
    first = [file for name in chosen for file in files if name == (group, file.stem)]
    return list(dict.fromkeys([*first, *files]))


def numbered(file: Path) -> list[str]:
    """Return what sorts the names of files by the numbers in them."""
    return [part.zfill(9) if part.isdigit() else part for part in re.split(r"(\d+)", file.stem)]


def values_of_file(file: Path) -> dict[str, Any]:
    """Return the values of a file over those of the files that its defaults list names.

    Nothing is resolved, and entries that choose a config of another group are left out.
    """
    own = contents_of(file)
    merged: Any = OmegaConf.create()
    for entry in own.get("defaults", ()):
        if isinstance(entry, str) and entry != "_self_":
            name = entry.partition("@")[0]
            folder = file.parents[1] if name.startswith("/") else file.parent
            merged = OmegaConf.merge(merged, values_of_file(folder / f"{name.lstrip('/')}.yaml"))
    values: Any = OmegaConf.to_container(OmegaConf.merge(merged, own))
    return {str(name): value for name, value in values.items() if name != "defaults"}


@functools.cache
def contents_of(file: Path) -> dict[str, Any]:
    """Read a config file; nothing is resolved."""
    contents: Any = OmegaConf.to_container(OmegaConf.load(file))
    return dict(contents)


def summary_of(file: Path) -> str:
    """Return the first sentence of the comment at the start of a config file."""
    lines = takewhile(lambda line: line.startswith("# "), file.read_text("utf-8").splitlines())
    words = [line[2:] for line in lines if not re.match(r"# (@package|yaml-language|  )", line)]
    return re.split(r"(?<=\.) (?=[A-Z])", " ".join(words))[0]

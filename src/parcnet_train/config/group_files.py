"""The files of `conf/` by group, and their values before anything is resolved."""

from __future__ import annotations

import codecs
import functools
import re
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import MarkedYAMLError

from parcnet_train.errors import Fault


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


def misread_files(folders: Iterable[Any], groups: Sequence[str]) -> list[Fault]:
    """Return a fault for every config file of the user that Hydra would misread.

    If a file begins with a byte order mark, Hydra ignores its first line, often `@package`.

    Args:
        folders: Folders of configs, with or without `file://`.
        groups: Groups whose files are read.
    """
    faults = []
    for folder in (str(each).removeprefix("file://") for each in folders):
        files = {file for group in groups for file in Path(folder).glob(f"{group}/**/*.yaml")}
        for file in sorted(each for each in files if each.is_file()):
            content = file.read_bytes()
            try:
                content.decode("utf-8")
            except UnicodeDecodeError:
                faults.append(
                    Fault(
                        "",
                        f"{file} is not in UTF-8. Fix: save it as UTF-8, without byte order mark",
                    )
                )
            else:
                if content.startswith(codecs.BOM_UTF8):
                    faults.append(
                        Fault("", f"{file} begins with a byte order mark. Fix: save it without one")
                    )
    return faults


def not_yaml(error: MarkedYAMLError) -> str:
    """Describe a config file that the YAML parser cannot read."""
    mark = error.problem_mark or error.context_mark
    where = f"{mark.name}, line {mark.line + 1}" if mark else "a config file"
    problem = " ".join(filter(None, (error.context, error.problem)))
    return f"{where}: {problem}; expected YAML. Fix: correct the file"

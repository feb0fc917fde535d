"""`action=prepare`: a data set in the layout that a data module reads."""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from parcnet_train.actions.results import Results, about
from parcnet_train.config.action_sections import Prepare
from parcnet_train.config.overrides import quoted
from parcnet_train.config.sections import Paths
from parcnet_train.config.typed import section
from parcnet_train.data.prepare.convert import Converted, convert
from parcnet_train.data.prepare.files import lines_of
from parcnet_train.data.prepare.official.coco import prepare_coco
from parcnet_train.data.prepare.official.imagenet import prepare_imagenet
from parcnet_train.data.prepare.official.voc import SBD, VOC, prepare_voc
from parcnet_train.data.prepare.pack import Packed, pack
from parcnet_train.data.prepare.readers.formats import READERS, Hints
from parcnet_train.data.prepare.settling import read_classes
from parcnet_train.data.prepare.splitting import Splitting
from parcnet_train.errors import ConfigError
from parcnet_train.runs.directories import write_results
from parcnet_train.terminal import wide_console

WIDTH = 100  # characters of the table of counts


def prepare(config: dict[str, Any]) -> Results:
    """Convert a data set, or unpack official archives.

    Args:
        config: The whole configuration as plain values; its data and its network are not looked at.

    Returns:
        What `results.json` holds.

    Raises:
        ConfigError: If settings do not fit the source.
        DataError: If the source has faults, or the output cannot be written.
    """
    settings = section(Prepare, config)
    output = Path(section(Paths, config).output)
    given = settings.input if isinstance(settings.input, list) else [str(settings.input)]
    inputs = [Path(each).expanduser() for each in given]
    root = Path(str(settings.output)).expanduser()
    results = {
        **about(config),
        "prepare/source": settings.source,
        "prepare/input": given[0] if len(given) == 1 else given,
        "prepare/output": str(root),
    }
    if settings.pack:
        packed = pack(inputs[0], root, settings.short_side)
        print(summary_of(packed, root))
        results |= {
            "prepare/images": packed.images,
            "prepare/shards": packed.shards,
            "prepare/bytes": packed.bytes,
        }
    elif settings.source in READERS:
        converted = convert_own(settings, inputs[0], root, config["seed"])
        show(converted)
        results |= {
            "prepare/task": converted.task,
            "prepare/command": command_for(converted),
            **{f"prepare/images/{split}": n for split, n in converted.counts.images.items()},
        }
    else:
        summary = unpack(settings, inputs, root)
        print(summary)
        results["prepare/summary"] = summary
    write_results(output, results)
    return results


def convert_own(settings: Prepare, path: Path, root: Path, seed: int) -> Converted:
    """Convert a set in one of the formats of annotation tools.

    Args:
        settings: Section of the action.
        path: Folder or file to read.
        root: Folder to create.
        seed: Seed of the split.
    """
    classes_file = settings.classes if isinstance(settings.classes, str) else None
    lines = lines_of(Path(classes_file).expanduser(), "prepare.classes") if classes_file else []
    classes = read_classes(settings.classes, lines)
    hints = Hints(
        classes,
        Path(settings.palette).expanduser() if settings.palette else None,
        settings.columns.image,
        settings.columns.label,
        settings.columns.split,
    )
    return convert(
        partial(READERS[str(settings.source)], path, hints),
        f"prepare.input={path}",
        path if path.is_dir() else path.parent,
        root,
        settings.task,
        classes,
        settings.crowds,
        settings.link,
        Splitting(
            settings.split.keep,
            settings.split.val,
            settings.split.test,
            settings.split.group_by,
            settings.split.near_duplicates,
            seed,
        ),
    )


def unpack(settings: Prepare, inputs: list[Path], root: Path) -> str:
    """Prepare official archives; return a summary.

    Raises:
        ConfigError: If `source=voc` is not given two archives.
    """
    if settings.source == "imagenet":
        return prepare_imagenet(inputs[0], root)
    if settings.source == "coco":
        return prepare_coco(inputs[0], root, settings.link)
    voc, sbd = [inputs[0] / VOC, inputs[0] / SBD] if len(inputs) == 1 else inputs[:2]
    if len(inputs) > 2:
        raise ConfigError(f"prepare.input={settings.input}: expected two paths, [VOC, SBD]")
    coco = Path(settings.coco).expanduser() if settings.coco else None
    return prepare_voc(voc, sbd, root, coco, settings.coco_rule, settings.link)


def summary_of(packed: Packed, root: Path) -> str:
    """Return what was packed, and how to train on it."""
    is_new = "was complete already" if packed.was_complete else "complete"
    return (
        f"{root}: {is_new}; {packed.images:,} images ({packed.bytes / 1e6:,.1f} MB) in "
        f"{packed.shards:,} shards, {packed.others:,} other files.\n"
        f"Train on it as on the data set itself: data.root={root}"
    )


def show(converted: Converted) -> None:
    """Print the counts of a converted set, and the command that trains on it."""
    heading, *rows = converted.counts.rows()
    table = Table(*(escape(text) for text in heading[:1]))
    for text in heading[1:]:
        table.add_column(text, justify="right")
    for number, row in enumerate(rows, 1):
        table.add_row(*map(escape, row), end_section=number == len(rows) - 1)
    wide_console(WIDTH).print(table)
    is_new = "was complete already; verified" if converted.was_complete else "complete and verified"
    print(f"{converted.root}: {is_new}. Train on it:")
    print(f"python -m parcnet_train {command_for(converted)} recipe=finetune")


def command_for(converted: Converted) -> str:
    """Return the overrides that train on a set; an unusual path is quoted for Hydra and a shell."""
    path = str(converted.root)
    if re.fullmatch(r"[\w./-]+", path, re.ASCII):
        return f"{converted.command} data.root={path}"
    return f"{converted.command} {shlex.quote(f'data.root={quoted(path)}')}"

"""Where the splits of a local data set of Hugging Face lie, and how they are opened.

A split is named by a folder, `ROOT/SPLIT`, whether there is one or only Parquet files of that name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parcnet_train.data.near_files import hint
from parcnet_train.errors import ConfigError, DataError, first_line

SAVED = "state.json"  # in every folder that `save_to_disk` wrote rows into


def import_datasets() -> Any:
    """The package, told to stay away from the network.

    Raises:
        ConfigError: where it is not installed.
    """
    for name in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE"):
        os.environ[name] = "1"  # is read when it is imported
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            "data=huggingface needs the package datasets, which is not installed: "
            "pip install datasets"
        ) from error
    return datasets


def parquet_files(folder: Path) -> list[str]:
    """The Parquet files of a split, none where it has none."""
    root, split = folder.parent, folder.name
    for pattern in (f"{split}-*.parquet", f"data/{split}-*.parquet", f"{split}/*.parquet"):
        if files := sorted(map(str, root.glob(pattern))):
            return files
    return []


def files_of_rows(folder: Path) -> list[str]:
    """Names of the files that hold the rows of a split."""
    return sorted(file.name for file in paths_of_rows(folder))


def paths_of_rows(folder: Path) -> list[Path]:
    """The files that hold the rows of a split."""
    files = map(Path, parquet_files(folder)) if not (folder / SAVED).is_file() else None
    return list(files or folder.glob("*.arrow"))


def is_there(folder: Path) -> bool:
    """Whether a split is there."""
    return (folder / SAVED).is_file() or bool(parquet_files(folder))


def refuse_missing(folder: Path) -> None:
    """Raises where a split is not there.

    Raises:
        DataError: says what is allowed.
    """
    if is_there(folder):
        return
    root, split = folder.parent, folder.name
    is_alone = (root / SAVED).is_file()
    reason = " (it holds a Dataset; a DatasetDict has splits)" if is_alone else hint(root, split)
    raise DataError(
        f"data.root: {root} has no split {split}{reason}; allowed is a folder that "
        f"DatasetDict.save_to_disk wrote, or one with {split}-*.parquet, data/{split}-*.parquet or "
        f"{split}/*.parquet; set data.root, data.train_dir, data.val_dir"
    )


def features_of(folder: Path) -> Any:
    """Names and types of the columns of a split, read from what describes it.

    Raises:
        DataError: where it is not there, or cannot be read.
    """
    datasets = import_datasets()
    refuse_missing(folder)
    if (folder / SAVED).is_file():
        return rows_of(folder, []).features
    from pyarrow import parquet

    path = parquet_files(folder)[0]
    try:
        return datasets.Features.from_arrow_schema(parquet.read_schema(path))
    except Exception as error:  # whatever its readers raise is about this file
        raise unreadable(path, error) from error


def rows_of(folder: Path, columns: Sequence[str]) -> Any:
    """The rows of a split, which stay on the disk.

    Parquet files are written into the cache of `datasets` the first time, as a table whose rows can
    be picked.

    Args:
        folder: of a split that is there.
        columns: that Parquet files are read for.

    Raises:
        DataError: where it cannot be read.
    """
    datasets = import_datasets()
    try:
        if (folder / SAVED).is_file():
            return datasets.load_from_disk(str(folder))
        return datasets.Dataset.from_parquet(parquet_files(folder), columns=list(columns))
    except Exception as error:  # whatever its readers raise is about these files
        raise unreadable(folder, error) from error


def unreadable(path: Path | str, error: Exception) -> DataError:
    """The error for files that `datasets` cannot read."""
    reason = first_line(error)
    return DataError(f"data.root: {path} cannot be read: {reason}; copy the data set again")

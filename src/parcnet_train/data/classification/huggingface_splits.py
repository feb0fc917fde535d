"""Finding and opening the splits of a local Hugging Face data set.

A split is identified by the path `ROOT/SPLIT`, even if only Parquet files of that name exist.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parcnet_train.data.near_files import hint
from parcnet_train.errors import ConfigError, DataError, first_line

SAVED = "state.json"  # in every folder of rows that `save_to_disk` wrote


def import_datasets() -> Any:
    """Import the package `datasets` with network access turned off.

    Raises:
        ConfigError: If it is not installed.
    """
    for name in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE"):
        os.environ[name] = "1"  # read at import
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            "data=huggingface: the package datasets is not installed. Fix: pip install datasets"
        ) from error
    return datasets


def parquet_files(folder: Path) -> list[str]:
    """Return the Parquet files of a split; empty if it has none."""
    root, split = folder.parent, folder.name
    for pattern in (f"{split}-*.parquet", f"data/{split}-*.parquet", f"{split}/*.parquet"):
        if files := sorted(map(str, root.glob(pattern))):
            return files
    return []


def files_of_rows(folder: Path) -> list[str]:
    """Return the names of the files that contain the rows of a split."""
    return sorted(file.name for file in paths_of_rows(folder))


def paths_of_rows(folder: Path) -> list[Path]:
    """Return the paths of the files that contain the rows of a split."""
    files = map(Path, parquet_files(folder)) if not (folder / SAVED).is_file() else None
    return list(files or folder.glob("*.arrow"))


def is_there(folder: Path) -> bool:
    """Return whether a split exists."""
    return (folder / SAVED).is_file() or bool(parquet_files(folder))


def refuse_missing(folder: Path) -> None:
    """Check that a split exists.

    Raises:
        DataError: If it does not.
    """
    if is_there(folder):
        return
    root, split = folder.parent, folder.name
    is_alone = (root / SAVED).is_file()
    reason = (
        " (it contains a Dataset; only a DatasetDict has splits)" if is_alone else hint(root, split)
    )
    raise DataError(
        f"data.root: {root} has no split {split}{reason}; expected a folder that "
        f"DatasetDict.save_to_disk wrote, or one with {split}-*.parquet, data/{split}-*.parquet or "
        f"{split}/*.parquet. Fix: set data.root, data.train_dir, data.val_dir or "
        "data.test_dir"
    )


def features_of(folder: Path) -> Any:
    """Read names and types of the columns of a split from its metadata.

    Raises:
        DataError: If the split does not exist or cannot be read.
    """
    datasets = import_datasets()
    refuse_missing(folder)
    if (folder / SAVED).is_file():
        return rows_of(folder, []).features
    from pyarrow import parquet

    path = parquet_files(folder)[0]
    try:
        return datasets.Features.from_arrow_schema(parquet.read_schema(path))
    except Exception as error:  # any error of the reader is caused by this file
        raise unreadable(path, error) from error


def rows_of(folder: Path, columns: Sequence[str]) -> Any:
    """Open the rows of a split, which stay on disk.

    Parquet files are converted into a table with random access on first use, in the cache of
    `datasets`.

    Args:
        folder: Path of an existing split.
        columns: Columns to read from Parquet files, and to verify; the images themselves are not
            read.

    Raises:
        DataError: If the split cannot be read.
    """
    datasets = import_datasets()
    try:
        if (folder / SAVED).is_file():
            rows = datasets.load_from_disk(str(folder))
        else:
            rows = datasets.Dataset.from_parquet(parquet_files(folder), columns=list(columns))
        # Arrow trusts the offsets in a file; damaged ones would end the process by a signal.
        rows.data.table.select(list(columns)).validate(full=True)
        return rows
    except Exception as error:  # any error of the reader is caused by these files
        raise unreadable(folder, error) from error


def unreadable(path: Path | str, error: Exception) -> DataError:
    """Return the error for files that `datasets` cannot read."""
    reason = first_line(error)
    return DataError(f"data.root: {path} cannot be read ({reason}). Fix: copy the data set again")

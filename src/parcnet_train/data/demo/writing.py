"""Folders of data that are written once and atomically."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_once(root: Path, write: Callable[[Path], None]) -> None:
    """Create a folder unless it exists.

    The folder appears when it is complete, so neither an interrupted call nor two simultaneous
    calls leave an incomplete one.

    Args:
        root: Path of the folder.
        write: Function that fills the folder that it is given, which is then renamed to `root`.
    """
    if root.is_dir():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=root.parent, prefix=f"{root.name}.partial-"))
    try:
        write(partial)
        partial.chmod(0o755)
        os.sync()  # a folder of that name must be complete, even after a power cut
        try:
            partial.rename(root)
        except OSError:
            if not root.is_dir():  # otherwise another process was faster
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # in case it did not become `root`

"""Folders of data that are written once, as a whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_once(root: Path, write: Callable[[Path], None]) -> None:
    """Makes a folder unless it is there.

    It appears as a whole, so that neither an interrupted call nor two at once leave half.

    Args:
        root: the folder.
        write: fills the folder that it is given, which becomes `root`.
    """
    if root.is_dir():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=root.parent, prefix=f"{root.name}.partial-"))
    try:
        write(partial)
        partial.chmod(0o755)
        os.sync()  # a folder of that name counts as whole, also after a power cut
        try:
            partial.rename(root)
        except OSError:
            if not root.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # where it did not become `root`

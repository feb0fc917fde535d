"""Code version: the commit of the checkout of this package, and uncommitted changes."""

from __future__ import annotations

import logging
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

DIFF = "git.diff"
LARGEST_DIFF = 2**20  # bytes of a diff that are kept
MOST_UNTRACKED = 100  # names of untracked files that are kept
PATIENCE = 20  # seconds that git may take


@dataclass(frozen=True)
class Revision:
    """A commit and the uncommitted changes of its checkout.

    Attributes:
        name: Hash of the commit.
        diff: Diff of the tracked files, cut if it is long.
        untracked: Names of untracked files that are not ignored; the diff lacks their contents.
    """

    name: str
    diff: bytes
    untracked: tuple[str, ...]

    def described(self) -> dict[str, Any]:
        """Return the values for `provenance.json`."""
        return {
            "revision": self.name,
            "dirty": bool(self.diff or self.untracked),
            "diff": DIFF if self.diff else None,
            "untracked": list(self.untracked),
        }


def find_revision(root: Path | None = None) -> Revision | None:
    """Return the revision of a checkout.

    Args:
        root: Root folder of the checkout; None: that of this package.

    Returns:
        The revision; None if there is no checkout, as for an installed package, or git fails.
    """
    root = root or Path(__file__).parents[3]
    if not (root / ".git").exists():  # a folder; in a worktree a file
        return None
    try:
        name = git(root, "rev-parse", "HEAD").decode().strip()
        diff = git(root, "diff", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD")
        others = git(root, "ls-files", "--others", "--exclude-standard", "-z")
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("git cannot determine the revision of %s: %s", root, error)
        return None
    names = [os.fsdecode(name) for name in others.split(b"\0") if name]
    if len(names) > MOST_UNTRACKED:
        names[MOST_UNTRACKED:] = [f"and {len(names) - MOST_UNTRACKED} more"]
    return Revision(name, cut(diff), tuple(names))


def cut(diff: bytes) -> bytes:
    """Cut a diff that is too long; the last line gives the number of omitted bytes."""
    rest = len(diff) - LARGEST_DIFF
    if rest <= 0:
        return diff
    return diff[:LARGEST_DIFF] + f"\n[cut: {rest:,} more bytes are left out]\n".encode()


def git(root: Path, *arguments: str) -> bytes:
    """Return the output of a git command, run without locks and without GIT_* variables."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return subprocess.run(
        ["git", "-C", str(root), *arguments],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
        env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
    ).stdout

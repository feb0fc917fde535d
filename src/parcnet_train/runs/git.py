"""Which code runs: the commit of the checkout that holds this package, and what differs from it."""

from __future__ import annotations

import logging
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

DIFF = "git.diff"
LARGEST_DIFF = 2**20  # bytes that are kept of a diff
MOST_UNTRACKED = 100  # names that are kept
PATIENCE = 20  # seconds that git may take


@dataclass(frozen=True)
class Revision:
    """A commit, and what the files in the checkout have beside it.

    Attributes:
        name: of the commit.
        diff: of files that git knows, cut where it is long.
        untracked: names of files that git does not know, and does not ignore; what they hold is in
            no diff.
    """

    name: str
    diff: bytes
    untracked: tuple[str, ...]

    def described(self) -> dict[str, Any]:
        """For `provenance.json`."""
        return {
            "revision": self.name,
            "dirty": bool(self.diff or self.untracked),
            "diff": DIFF if self.diff else None,
            "untracked": list(self.untracked),
        }


def find_revision(root: Path | None = None) -> Revision | None:
    """The revision of a checkout.

    Args:
        root: of the checkout; None: the folder that a checkout of this package has.

    Returns:
        None where there is no checkout, as around an installed package, or git does not answer.
    """
    root = root or Path(__file__).parents[3]
    if not (root / ".git").exists():  # a folder, or a file in a worktree
        return None
    try:
        name = git(root, "rev-parse", "HEAD").decode().strip()
        diff = git(root, "diff", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD")
        others = git(root, "ls-files", "--others", "--exclude-standard", "-z")
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("git does not tell the revision of %s: %s", root, error)
        return None
    names = [os.fsdecode(name) for name in others.split(b"\0") if name]
    if len(names) > MOST_UNTRACKED:
        names[MOST_UNTRACKED:] = [f"and {len(names) - MOST_UNTRACKED} more"]
    return Revision(name, cut(diff), tuple(names))


def cut(diff: bytes) -> bytes:
    """A diff of bounded size; the last line says what is left out."""
    rest = len(diff) - LARGEST_DIFF
    if rest <= 0:
        return diff
    return diff[:LARGEST_DIFF] + f"\n[cut: {rest:,} bytes more are left out]\n".encode()


def git(root: Path, *arguments: str) -> bytes:
    """What a command of git prints; it takes no lock, and no repository from the environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return subprocess.run(
        ["git", "-C", str(root), *arguments],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
        env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
    ).stdout

"""File systems of a few bytes, or that cannot be written, which only root can mount."""

import os
import sys

import pytest

needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a tmpfs, on Linux"
)


def with_mount(script, command):
    """Return a command that runs in a mount namespace of its own, after a script of its mounts."""
    return ["unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh", *command]
